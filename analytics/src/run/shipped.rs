//! The queries that come with Weir.

use crate::query::QueryFile;

/// A query file that comes with Weir.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// The whole text.
    pub text: &'static str,
    /// Whether it runs where nobody says otherwise.
    pub by_default: bool,
}

impl Shipped {
    /// Its file, read.
    pub(super) fn parsed(&self) -> QueryFile {
        QueryFile::parse(self.name, self.text).expect("the headers of all are tested")
    }
}

macro_rules! shipped {
    ($($dir:literal / $name:literal $by_default:literal,)*) => {
        &[$(Shipped {
            name: $name,
            text: include_str!(concat!("../../../queries/", $dir, "/", $name, ".sql")),
            by_default: $by_default,
        },)*]
    };
}

/// All of them.
pub const SHIPPED: &[Shipped] = shipped![
    "detections" / "api_health" false,
    "detections" / "backend_time_out_of_range" false,
    "detections" / "client_out_of_range" true,
    "detections" / "credential_stuffing" false,
    "detections" / "delivery_backlog" false,
    "detections" / "error_burst" false,
    "detections" / "limit_hit" false,
    "detections" / "response_time_out_of_range" false,
    "detections" / "scanner" false,
    "detections" / "scraping" false,
    "detections" / "silent_integration" false,
    "detections" / "token_abuse" false,
    "detections" / "token_in_many_networks" false,
    "detections" / "traffic_out_of_range" false,
    "detections" / "unseen_address" false,
    "detections" / "unusual_order" false,
    "views" / "calls_by_application_hour" false,
    "views" / "latency_by_resource" false,
    "views" / "latency_by_upstream" false,
    "views" / "resource_steps" false,
    "views" / "traffic_by_api_minute" true,
];

/// The word that stands for all of them.
pub const ALL: &str = "all";

/// The names of those that run where nobody says otherwise.
pub fn by_default() -> Vec<String> {
    let default = SHIPPED.iter().filter(|of| of.by_default);
    default.map(|of| of.name.to_owned()).collect()
}
