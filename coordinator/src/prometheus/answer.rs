//! An answer of Prometheus: one number, or words on why there is none.

use cutover_coordinator_core::input::MetricAnswer;
use hyper::StatusCode;
use serde::{Deserialize, de::IgnoredAny};

/// How much of a server's own words is told, in characters.
const WORDS_MAX: usize = 200;

#[derive(Deserialize)]
struct Reply {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "snake_case")]
enum Data {
    Scalar(Point),
    Vector(Vec<Series>),
    String(IgnoredAny),
    Matrix(IgnoredAny),
}

/// A time, and a number as text: JSON knows no NaN.
#[derive(Deserialize)]
struct Point(#[expect(dead_code, reason = "the time is the question's")] f64, String);

#[derive(Deserialize)]
struct Series {
    value: Option<Point>,
}

/// Reads what a server answered.
pub(super) fn read(status: StatusCode, body: &[u8]) -> MetricAnswer {
    let reply = serde_json::from_slice::<Reply>(body);
    match reply {
        Ok(Reply { status: word, data: Some(data), .. })
            if status.is_success() && word == "success" =>
        {
            number_of(data)
        }
        Ok(Reply { error, .. }) if !error.is_empty() => {
            MetricAnswer::Failed(format!("it answered {status}: {}", words(&error)))
        }
        Ok(_) if !status.is_success() => MetricAnswer::Failed(format!("it answered {status}")),
        Ok(_) => MetricAnswer::Failed("its answer has no result".to_owned()),
        Err(_) if status.is_success() => {
            MetricAnswer::Failed("its answer is none of a Prometheus server".to_owned())
        }
        Err(_) => MetricAnswer::Failed(format!("it answered {status}")),
    }
}

fn number_of(data: Data) -> MetricAnswer {
    let failed = |why: String| MetricAnswer::Failed(why);
    match data {
        Data::Scalar(Point(_, text)) => number(&text),
        Data::Vector(series) => match &series[..] {
            [] => MetricAnswer::Nothing,
            [Series { value: Some(Point(_, text)) }] => number(text),
            [Series { value: None }] => failed("it gave a histogram, and no number".to_owned()),
            several => failed(format!(
                "it gave {} numbers, and one is compared; sum them up",
                several.len()
            )),
        },
        Data::String(_) => failed("it gave a text, and no number".to_owned()),
        Data::Matrix(_) => failed("it gave a range, and no number".to_owned()),
    }
}

fn number(text: &str) -> MetricAnswer {
    text.parse().map_or_else(
        |_| MetricAnswer::Failed("it gave something that is no number".to_owned()),
        MetricAnswer::Number,
    )
}

/// Cuts a server's words, and escapes what is no letter of a line.
fn words(text: &str) -> String {
    text.trim().chars().take(WORDS_MAX).flat_map(char::escape_debug).collect()
}
