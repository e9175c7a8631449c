//! Logarithms and exponentials from basic operations alone.
//!
//! Those of the system's library differ in the last bit from one build to another, and a verdict
//! must be the same on every machine, as must a simulated run.

const LOG2_E: f64 = std::f64::consts::LOG2_E;
// ln 2 in two parts, so that whole multiples of the first are exact (fdlibm's e_exp.c).
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// 1.5 times 2^52: adding it leaves a whole number in the lowest bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// Beyond it e^x is not worth telling from nothing or from everything.
const EXPONENT_MAX: f64 = 700.0;

/// 1/n! from n = 0.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut inverses = [1.0; 14];
    let mut n = 1;
    let mut factorial = 1.0;
    while n < inverses.len() {
        factorial *= n as f64;
        inverses[n] = 1.0 / factorial;
        n += 1;
    }
    inverses
};

/// 1, 1/3, 1/5, …
const INVERSE_ODDS: [f64; 10] = {
    let mut inverses = [1.0; 10];
    let mut n = 0;
    while n < inverses.len() {
        inverses[n] = 1.0 / (2 * n + 1) as f64;
        n += 1;
    }
    inverses
};

/// Returns e to the power of `x`, to about one unit in the last place. Below -700 it is zero, and
/// above 700 it is what it is there.
pub const fn exp(x: f64) -> f64 {
    if x < -EXPONENT_MAX {
        return 0.0;
    }
    let x = if x > EXPONENT_MAX { EXPONENT_MAX } else { x };
    let rounded = x * LOG2_E + ROUNDER;
    let whole = rounded - ROUNDER;
    let rest = (x - whole * LN_2_HIGH) - whole * LN_2_LOW;
    // The series to the 13th term: what is left out is below 2^-57 of it.
    let mut sum = 0.0;
    let mut term = INVERSE_FACTORIALS.len();
    while term > 0 {
        term -= 1;
        sum = sum * rest + INVERSE_FACTORIALS[term];
    }
    let exponent = rounded.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(1023);
    sum * f64::from_bits(exponent << 52)
}

/// Returns the natural logarithm of `x`, which is positive; that of anything else is -∞.
pub const fn ln(x: f64) -> f64 {
    if x.is_nan() || x < f64::MIN_POSITIVE {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    // x is 2^exponent times a fraction between the roots of 1/2 and 2.
    let bits = x.to_bits() + 0x0009_5f64_0000_0000;
    let exponent = (bits >> 52) as f64 - 1023.0;
    let fraction =
        f64::from_bits(x.to_bits().wrapping_sub((bits >> 52) << 52).wrapping_add(1023 << 52));
    let ratio = (fraction - 1.0) / (fraction + 1.0);
    let square = ratio * ratio;
    // ln f = 2 artanh((f-1)/(f+1)); the ratio is below 0.172, so ten terms are enough.
    let mut sum = 0.0;
    let mut term = INVERSE_ODDS.len();
    while term > 0 {
        term -= 1;
        sum = sum * square + INVERSE_ODDS[term];
    }
    exponent * LN_2_HIGH + (exponent * LN_2_LOW + 2.0 * ratio * sum)
}

/// Returns the chance that a standard normal number is below `x`, to within 1e-7 (Abramowitz and
/// Stegun 26.2.17).
pub fn normal_below(x: f64) -> f64 {
    const TERMS: [f64; 5] =
        [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    const DENSITY: f64 = 0.398_942_280_401_432_7;
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.231_641_9 * size);
    let sum = TERMS.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    let above = DENSITY * exp(-size * size / 2.0) * sum;
    if x < 0.0 { above } else { 1.0 - above }
}

/// Returns the chance that a number of Student's law with `freedom` degrees is below `x`, to
/// within a tenth of itself in the tails (Wallace 1959).
pub fn student_below(x: f64, freedom: f64) -> f64 {
    let size = (freedom * ln(1.0 + x * x / freedom)).sqrt();
    let size = size * (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0);
    normal_below(if x < 0.0 { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_agree_with_the_systems() {
        for step in -6_990..=6_990 {
            let x = f64::from(step) / 10.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-15, "exp {x}: {} {}", exp(x), x.exp());
            let y = x.exp();
            assert!((ln(y) - y.ln()).abs() <= 1e-15 * y.ln().abs(), "ln {y}: {} {}", ln(y), y.ln());
            let z = 1.0 + f64::from(step) / 7_000.0;
            assert!((ln(z) - z.ln()).abs() <= 4e-16 * z.ln().abs().max(1.0), "ln {z}");
        }
        assert_eq!((exp(0.0), ln(1.0), exp(-1e9)), (1.0, 0.0, 0.0));
        assert_eq!((ln(0.0), ln(-1.0)), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    }

    #[test]
    fn the_normal_law_is_known_at_its_usual_places() {
        for (x, below) in
            [(0.0, 0.5), (1.0, 0.841_344_75), (-2.326_347_87, 0.01), (3.0, 0.998_650_1)]
        {
            assert!((normal_below(x) - below).abs() < 1e-7, "{x}: {}", normal_below(x));
        }
    }

    #[test]
    fn students_law_has_its_long_tails() {
        for (x, freedom, above) in
            [(2.015, 5.0, 0.05), (6.869, 5.0, 0.000_5), (3.930, 16.0, 0.000_6), (0.0, 3.0, 0.5)]
        {
            let found = 1.0 - student_below(x, freedom);
            assert!((found / above - 1.0).abs() < 0.1, "{x}, {freedom}: {found}");
        }
    }
}
