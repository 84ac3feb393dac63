//! Python's `random.Random`: the same seed draws the same few-shot examples as lm-evaluation-harness does.
//!
//! The generator is the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), seeded by the array of the seed's 32-bit
//! digits; `sample`, `choices` and `shuffle` consume it in the order of Python's standard library.

use std::collections::BTreeSet;

const N: usize = 624;
const M: usize = 397;

/// A generator that draws what `random.Random(seed)` draws.
#[derive(Clone)]
pub struct Random {
    state: [u32; N],
    index: usize,
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Random")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl Random {
    /// `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        let mut key = vec![seed as u32];
        if seed > u64::from(u32::MAX) {
            key.push((seed >> 32) as u32);
        }
        Self::of_array(&key)
    }

    fn of_number(seed: u32) -> Self {
        let mut state = [0; N];
        state[0] = seed;
        for i in 1..N {
            let before: u32 = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = before.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, index: N }
    }

    fn of_array(key: &[u32]) -> Self {
        let mut random = Self::of_number(19_650_218);
        let state = &mut random.state;
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ before.wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            (i, j) = (next(i, state), (j + 1) % key.len());
        }
        for _ in 0..N - 1 {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ before.wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i = next(i, state);
        }
        state[0] = 0x8000_0000;
        random
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.index == N {
            self.renew();
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn renew(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.index = 0;
    }

    /// `random()`: 53 bits, from 0 to below 1.
    pub fn random(&mut self) -> f64 {
        let (high, low) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    /// `_randbelow(n)`: a whole number below `n`, which must be at least 1 and at most 2³².
    pub fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = if bits > 32 {
                u64::from(self.next_u32()) | (u64::from(self.next_u32() >> (64 - bits)) << 32)
            } else {
                u64::from(self.next_u32() >> (32 - bits))
            };
            if (drawn as usize) < n {
                return drawn as usize;
            }
        }
    }

    /// Indices of `sample(population, k)` for a population of `n`: none when `k > n`, where Python raises.
    pub fn sample(&mut self, n: usize, k: usize) -> Option<Vec<usize>> {
        if k > n {
            return None;
        }
        // Python keeps a list where that is smaller than a set of what was taken.
        let mut limit = 21;
        if k > 5 {
            limit += 4_usize.pow((3.0 * k as f64).log(4.0).ceil() as u32);
        }
        if n > limit {
            return Some(self.sample_by_set(n, k));
        }
        let mut pool: Vec<usize> = (0..n).collect();
        let mut drawn = Vec::with_capacity(k);
        for i in 0..k {
            let j = self.below(n - i);
            drawn.push(pool[j]);
            pool[j] = pool[n - i - 1];
        }
        Some(drawn)
    }

    fn sample_by_set(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut taken = BTreeSet::new();
        let mut drawn = Vec::with_capacity(k);
        while drawn.len() < k {
            let j = self.below(n);
            if taken.insert(j) {
                drawn.push(j);
            }
        }
        drawn
    }

    /// Indices of `choices(population, k=k)` for a population of `n ≥ 1`: drawn with replacement.
    pub fn choices(&mut self, n: usize, k: usize) -> Vec<usize> {
        (0..k)
            .map(|_| (self.random() * n as f64) as usize)
            .collect()
    }

    /// `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }
}

fn next(i: usize, state: &mut [u32; N]) -> usize {
    if i + 1 < N {
        return i + 1;
    }
    state[0] = state[N - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bits_of_a_seed_are_those_of_cpython() {
        // random.Random(1234): getrandbits(32) four times; a seed of more than 32 bits is two digits of the key.
        let mut random = Random::new(1234);
        let drawn: Vec<u32> = (0..4).map(|_| random.next_u32()).collect();
        assert_eq!(
            drawn,
            [4_150_886_329, 3_342_196_574, 1_892_932_127, 501_869_158]
        );
        let mut random = Random::new((1 << 40) + 7);
        assert_eq!(random.next_u32(), 2_635_837_658);
        assert!((random.random() - 0.747_324_256_710_084_4).abs() < 1e-16);
    }

    #[test]
    fn samples_are_those_of_cpython() {
        let mut random = Random::new(1234);
        let mut sample = |n, k| random.sample(n, k).unwrap();
        assert_eq!(sample(100, 5), [99, 56, 14, 0, 11]);
        assert_eq!(sample(100, 5), [74, 4, 85, 88, 10]);
        assert_eq!(sample(100, 5), [12, 98, 45, 30, 2]);
        assert_eq!(Random::new(0).sample(2, 3), None);

        // More than five draws from a small and from a large population, and all of one.
        let mut random = Random::new(1234);
        assert_eq!(random.sample(20, 7).unwrap(), [14, 3, 0, 2, 1, 10, 11]);
        assert_eq!(
            random.sample(1000, 30).unwrap()[..6],
            [85, 100, 784, 363, 242, 17]
        );
        assert_eq!(random.sample(6, 6).unwrap(), [3, 0, 4, 2, 5, 1]);
    }

    #[test]
    fn shuffles_choices_and_numbers_are_those_of_cpython() {
        let mut random = Random::new(0);
        let mut items: Vec<usize> = (0..10).collect();
        random.shuffle(&mut items);
        assert_eq!(items, [7, 8, 1, 5, 3, 4, 2, 0, 9, 6]);
        assert!((random.random() - 0.358_049_374_694_988_3).abs() < 1e-16);
        assert_eq!(random.choices(50, 6), [44, 10, 6, 6, 4, 39]);

        let mut random = Random::new(99);
        let drawn = [1 << 32, 1, 3].map(|n| random.below(n));
        assert_eq!(drawn, [1_735_072_617, 0, 2]);
    }
}
