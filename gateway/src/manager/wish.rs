use ingest::http::{Code, Failure, Problem};
use ingest::registry::files::{self, Missing, Place, Wanted};
use ingest::registry::{EntityKey, Json, Kind, Name, Snapshot};
use serde::Deserialize;

/// What a caller wants to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    entities: Vec<WantedEntity>,
    /// What becomes of the entities that are not named.
    #[serde(default)]
    missing: MissingWish,
    /// To apply: the revision that the plan was made on.
    #[serde(default)]
    pub(super) revision: Option<u64>,
    /// To apply: makes it safe to send it again.
    #[serde(default)]
    pub(super) id: Option<Name>,
    /// To apply: why.
    #[serde(default)]
    pub(super) message: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedEntity {
    kind: Kind,
    name: Name,
    spec: Json,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MissingWish {
    #[default]
    Keep,
    Remove,
}

impl Wish {
    pub(super) fn read(body: &[u8]) -> Result<Self, Failure> {
        // Serde's words may quote a value, which may be a secret: its place is told.
        serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let detail = format!("not a wish for entities at line {line}, column {column}");
            Problem::new(Code::BodyInvalid, detail).into()
        })
    }

    pub(super) fn plan(&self, snapshot: &Snapshot) -> files::Plan {
        let place = Place { file: "request".to_owned(), line: 1, column: 1 };
        let wanted = |entity: &WantedEntity| {
            let key = EntityKey::new(entity.kind, entity.name.clone());
            (key, (entity.spec.clone(), place.clone()))
        };
        let wanted =
            Wanted { entities: self.entities.iter().map(wanted).collect(), ..Wanted::default() };
        let missing = match self.missing {
            MissingWish::Keep => Missing::Keep,
            MissingWish::Remove => Missing::Remove,
        };
        files::plan(&wanted, snapshot, missing)
    }
}
