//! What a change of queries does, told before it is made.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Library;
use super::library::Listed;

/// What becomes of a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreseen {
    /// Its name.
    pub query: String,
    /// What it does.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What becomes of a query that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "does", rename_all = "snake_case")]
pub enum Fate {
    /// It is new: it answers from the beginning of history on.
    Begins,
    /// It goes on where it is, by another header.
    GoesOn,
    /// It is another: its state is dropped, and it answers from the beginning of history on.
    BeginsAnew {
        /// What of it is another.
        since: String,
    },
    /// It is gone, with its state and its table.
    Ends,
    /// It cannot run.
    Fails {
        /// What is wrong, and how to mend it.
        why: String,
    },
}

/// Compares two libraries, query by query; what stays as it is is left out.
pub(super) async fn foresee(now: &Library, then: &Library) -> Vec<Foreseen> {
    let names: BTreeSet<&String> = now.queries().keys().chain(then.queries().keys()).collect();
    let mut foreseen = Vec::new();
    for name in names {
        let (before, after) = (now.queries().get(name), then.queries().get(name));
        let fate = match (before, after) {
            (_, None) => Some(Fate::Ends),
            (before, Some(after)) => of(now, before, then, after).await,
        };
        foreseen.extend(fate.map(|fate| Foreseen { query: name.clone(), fate }));
    }
    foreseen
}

async fn of(
    now: &Library,
    before: Option<&Listed>,
    then: &Library,
    after: &Listed,
) -> Option<Fate> {
    let plan = match then.plan(after).await {
        Ok(plan) => plan,
        Err(why) => {
            // One that could not run before either, and is as it was, is no change.
            let is_new = match before {
                Some(before) => {
                    before.file.text != after.file.text || now.plan(before).await.is_ok()
                }
                None => true,
            };
            return is_new.then_some(Fate::Fails { why });
        }
    };
    let Some(before) = before else { return Some(Fate::Begins) };
    let Ok(plan_before) = now.plan(before).await else { return Some(Fate::Begins) };
    if before.file.is_detection() != after.file.is_detection() {
        let what = if after.file.is_detection() { "a detection" } else { "a view" };
        return Some(Fate::BeginsAnew { since: format!("it is {what} now") });
    }
    if plan.hash() == plan_before.hash() {
        return (before.file.text != after.file.text).then_some(Fate::GoesOn);
    }
    let since = plan.differs_from(&plan_before);
    Some(Fate::BeginsAnew { since })
}
