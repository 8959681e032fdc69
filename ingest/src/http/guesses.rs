use std::collections::HashMap;

use parking_lot::Mutex;

const WINDOW_S: i64 = 60;
/// So many wrong secrets are answered within a window.
const GUESSES_MAX: u32 = 10;
/// So many of those who guess are watched.
const CLIENTS_MAX: usize = 10_000;

/// Counts wrong secrets, by client: at the key manager its id, at the admin API its
/// address. Whether a client is known makes no difference, so that nobody can tell by
/// it.
///
/// Requests of one client that are looked at in the same moment may be one more
/// than the limit each; there are as many such moments as threads.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<HashMap<Box<str>, Count>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    since_s: i64,
    guesses: u32,
}

impl Count {
    /// A clock that stepped back ends a window too.
    fn is_over(self, now_s: i64) -> bool {
        !(0..WINDOW_S).contains(&(now_s - self.since_s))
    }
}

impl Guesses {
    /// For how many seconds a client is to wait; `None` if it may try.
    pub fn wait_s(&self, client: &str, now_s: i64) -> Option<i64> {
        let count = *self.0.lock().get(client)?;
        let waits = !count.is_over(now_s) && count.guesses >= GUESSES_MAX;
        waits.then(|| count.since_s + WINDOW_S - now_s)
    }

    /// Counts a wrong secret.
    pub fn count(&self, client: &str, now_s: i64) {
        let mut clients = self.0.lock();
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(client) {
            clients.retain(|_, count| !count.is_over(now_s));
        }
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(client) {
            let least = clients.iter().min_by_key(|(_, count)| count.guesses);
            if let Some(least) = least.map(|(client, _)| client.clone()) {
                clients.remove(&least);
            }
        }
        let count = clients.entry(client.into()).or_insert(Count { since_s: now_s, guesses: 0 });
        if count.is_over(now_s) {
            *count = Count { since_s: now_s, guesses: 0 };
        }
        count.guesses += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_secrets_close_the_door_for_the_rest_of_the_minute() {
        let guesses = Guesses::default();
        for i in 0..10 {
            assert_eq!(guesses.wait_s("shop", 1_000 + i), None, "guess {i}");
            guesses.count("shop", 1_000 + i);
        }
        assert_eq!(guesses.wait_s("shop", 1_010), Some(50));
        assert_eq!(guesses.wait_s("other", 1_010), None);
        assert_eq!(guesses.wait_s("shop", 1_059), Some(1));
        assert_eq!(guesses.wait_s("shop", 1_060), None);
    }

    #[test]
    fn a_flood_of_names_does_not_open_the_door_again() {
        let guesses = Guesses::default();
        for _ in 0..10 {
            guesses.count("shop", 1_000);
        }
        for i in 0..CLIENTS_MAX + 100 {
            guesses.count(&format!("c-{i}"), 1_001);
        }
        assert!(guesses.wait_s("shop", 1_002).is_some());
        assert_eq!(guesses.0.lock().len(), CLIENTS_MAX);
        guesses.count("late", 2_000);
        assert_eq!(guesses.0.lock().len(), 1, "what is over goes first");
    }
}
