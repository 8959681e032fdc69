//! The good tokens that a thread has seen, in two generations: when the young one
//! is full it becomes the old one, and the old one is dropped.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::Caller;

/// A place is found by the token's last bytes, which are its signature's, and is
/// good only for the very same token: hashing all of it would cost more than
/// comparing. Two tokens with the same end take turns in one place.
const TAIL_BYTES: usize = 32;
type Tail = [u8; TAIL_BYTES];

/// The most bytes of tokens in one generation.
const GENERATION_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A good token.
pub(super) struct Known {
    token: Box<str>,
    pub(super) caller: Arc<Caller>,
    pub(super) times: Times,
}

/// When a token is good, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) not_before_s: i64,
    pub(super) issued_s: i64,
    pub(super) expires_s: i64,
}

pub(super) struct TokenCache {
    young: HashMap<Tail, Known>,
    young_bytes: usize,
    old: HashMap<Tail, Known>,
    /// Of one generation.
    tokens_max: usize,
}

impl TokenCache {
    /// A cache of at most `tokens_max`.
    pub(super) fn new(tokens_max: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Self { young, young_bytes: 0, old, tokens_max: tokens_max / 2 }
    }

    pub(super) fn get(&mut self, token: &str) -> Option<&Known> {
        let tail = tail(token)?;
        let is_young = self.young.get(&tail).is_some_and(|known| *known.token == *token);
        if !is_young {
            if *self.old.get(&tail)?.token != *token {
                return None;
            }
            let known = self.old.remove(&tail)?;
            self.put(tail, known);
        }
        self.young.get(&tail)
    }

    pub(super) fn insert(&mut self, token: &str, caller: Arc<Caller>, times: Times) {
        if self.tokens_max > 0
            && let Some(tail) = tail(token)
        {
            self.put(tail, Known { token: token.into(), caller, times });
        }
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_bytes = 0;
    }

    fn put(&mut self, tail: Tail, known: Known) {
        let is_full = self.young.len() >= self.tokens_max
            || self.young_bytes + known.token.len() > GENERATION_BYTES_MAX;
        if is_full {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += known.token.len();
        if let Some(before) = self.young.insert(tail, known) {
            self.young_bytes -= before.token.len();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// Tokens are never shown.
impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cache of {} and {} tokens", self.young.len(), self.old.len())
    }
}

fn tail(token: &str) -> Option<Tail> {
    token.as_bytes().last_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::caller;

    const TIMES: Times = Times { not_before_s: 0, issued_s: 0, expires_s: 0 };

    #[test]
    fn it_holds_no_more_than_its_bound_and_keeps_what_is_used() {
        let mut cache = TokenCache::new(100);
        let token = |i: usize| format!("{i:040}");
        cache.insert(&token(0), caller("hot"), TIMES);
        for i in 1..1_000 {
            cache.insert(&token(i), caller("cold"), TIMES);
            assert!(cache.get(&token(0)).is_some(), "the hot one stays at {i}");
            assert!(cache.len() <= 100);
        }
        assert!(cache.get(&token(1)).is_none());
    }

    #[test]
    fn large_tokens_are_bounded_by_their_bytes() {
        let mut cache = TokenCache::new(1_000_000);
        for i in 0..2_000 {
            cache.insert(&format!("{}{i:040}", "x".repeat(16_000)), caller("c"), TIMES);
        }
        assert!(cache.len() * 16_040 <= 2 * GENERATION_BYTES_MAX);
        assert!(cache.len() > 500);
    }

    #[test]
    fn a_token_with_the_same_end_is_another() {
        let mut cache = TokenCache::new(100);
        let end = "e".repeat(TAIL_BYTES);
        cache.insert(&format!("a{end}"), caller("a"), TIMES);
        assert!(cache.get(&format!("b{end}")).is_none());
        assert!(cache.get(&end).is_none());
        assert!(cache.get("short").is_none());
        assert_eq!(&*cache.get(&format!("a{end}")).unwrap().caller.subject, "a");
        cache.clear();
        assert_eq!((cache.len(), cache.young_bytes), (0, 0));
    }
}
