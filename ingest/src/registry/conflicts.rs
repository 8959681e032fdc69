//! What two entities may not both claim: a path of the gateway, a method of a path of the
//! mediator, a name that queries read. Nobody could say which of them is meant.

use std::collections::HashMap;

use super::kind::{Api, From, Lifecycle, Query, Route, Table};
use super::{EntityKey, Fault, Kind, Snapshot, Written};

const OTHER_PATH: &str = "give one of them another path, or remove it";

/// Something that only one entity may have.
struct Claim {
    /// The same for all who claim the same.
    text: String,
    /// Where in the specification it stands.
    path: &'static str,
    /// What would end the conflict.
    mend: &'static str,
    owner: EntityKey,
    /// Where the owner is written, if that is known.
    file: Option<String>,
}

/// The entities that were written and claim what is another's, each with its fault. A
/// conflict that was there before is nobody's who changes something else.
pub(super) fn find(next: &Snapshot, written: &[Written]) -> Vec<(EntityKey, Fault)> {
    let may_claim =
        |w: &&Written| matches!(w.entity.kind, Kind::Api | Kind::Route | Kind::Query | Kind::Table);
    if !written.iter().any(|w| may_claim(&w)) {
        return Vec::new();
    }
    let is_written = |key: &EntityKey| written.iter().any(|w| &w.entity == key);
    // Those that stay as they are have the older right.
    let (new, old): (Vec<Claim>, Vec<Claim>) =
        claims(next).into_iter().partition(|claim| is_written(&claim.owner));
    let mut taken = HashMap::new();
    for claim in &old {
        taken.entry(claim.text.as_str()).or_insert(claim);
    }
    let mut faults = Vec::new();
    for claim in &new {
        match taken.get(claim.text.as_str()) {
            Some(first) if first.owner != claim.owner => {
                let at = first.file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
                let what = format!("{} is claimed by {}{at} too", claim.text, first.owner);
                faults.push((claim.owner.clone(), Fault::new(claim.path, what, claim.mend)));
            }
            Some(_) => {}
            None => {
                taken.insert(&claim.text, claim);
            }
        }
    }
    faults
}

fn claims(snapshot: &Snapshot) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (name, api) in snapshot.all::<Api>() {
        // The others are reached by nobody.
        if matches!(api.lifecycle, Lifecycle::Created | Lifecycle::InReview) {
            continue;
        }
        let owner = EntityKey::new(Kind::Api, name.clone());
        let versioned = format!("{}/{}", api.context, api.version);
        let plain = api.default_version.then(|| api.context.clone());
        for (text, path) in [(Some(versioned), "context"), (plain, "default_version")] {
            let claim =
                |text| Claim { text, path, mend: OTHER_PATH, owner: owner.clone(), file: None };
            claims.extend(text.map(claim));
        }
    }
    for (name, route) in snapshot.all::<Route>() {
        let From::Http(http) = &route.from;
        let shape = shape(&http.path);
        for method in &http.methods {
            claims.push(Claim {
                text: format!("{} {shape}", method.text()),
                path: "from.http.path",
                mend: OTHER_PATH,
                owner: EntityKey::new(Kind::Route, name.clone()),
                file: route.source.as_ref().map(|source| source.file.clone()),
            });
        }
    }
    let queries = snapshot.all::<Query>().map(|(name, _)| (Kind::Query, name));
    let tables = snapshot.all::<Table>().map(|(name, _)| (Kind::Table, name));
    for (kind, name) in queries.chain(tables) {
        let (text, owner) = (format!("the table {name}"), EntityKey::new(kind, name.clone()));
        let mend = "give one of them another name, or remove it";
        claims.push(Claim { text, path: "", mend, owner, file: None });
    }
    claims
}

/// A path of which the parameters have no names: who names them otherwise takes the
/// same requests.
fn shape(path: &str) -> String {
    let plain = |segment| if str::starts_with(segment, '{') { "{}" } else { segment };
    path.split('/').map(plain).collect::<Vec<_>>().join("/")
}
