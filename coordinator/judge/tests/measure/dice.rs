//! Random numbers whose values are the same on every machine.

use cutover_judge::math::{exp, ln};

pub struct Dice(fastrand::Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns a number from zero to below one.
    pub fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    pub fn bits(&mut self) -> u32 {
        self.0.u32(..)
    }

    pub fn chance(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    /// Returns a standard normal number, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * ln(square) / square).sqrt();
            }
        }
    }

    /// Returns a Poisson number; above a mean of 15, which only numbers of requests have,
    /// the nearest normal one.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 15.0 {
            let number = (mean + mean.sqrt() * self.normal()).round();
            return rounded_down(number);
        }
        let mut left = self.unit();
        let mut chance = exp(-mean);
        let mut count = 0;
        while left >= chance && count < 1_000 {
            left -= chance;
            count += 1;
            chance *= mean / count as f64;
        }
        count
    }

    /// Returns a number of trials up to a success, at least one, `mean` in the mean.
    pub fn geometric(&mut self, mean: f64) -> u64 {
        let mut count = 1;
        while count < 10_000 && !self.chance(1.0 / mean) {
            count += 1;
        }
        count
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the numbers here are small")]
#[expect(clippy::cast_sign_loss, reason = "what is below zero becomes zero")]
fn rounded_down(number: f64) -> u64 {
    number as u64
}
