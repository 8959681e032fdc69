use serde::{Deserialize, Serialize};

use super::KindSpec;
use crate::registry::Faults;

/// A continuous query: a view or a detection, which the analytics role runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Its file, header and all, up to 65,536 bytes. A file `NAME.sql` in the directory of the
    /// configuration is the query of that name.
    pub sql: String,
}

impl Query {
    /// The longest text, in bytes.
    pub const SQL_BYTES_MAX: usize = 64 * 1024;
}

impl KindSpec for Query {
    fn validate(&self, faults: &mut Faults) {
        let bytes = self.sql.len();
        if bytes > Self::SQL_BYTES_MAX {
            let mend = format!("use up to {}", Self::SQL_BYTES_MAX);
            faults.add("sql", format!("has {bytes} bytes"), mend);
        }
    }
}
