use ingest::registry::files::Override;

const PREFIX: &str = "WEIR_";
/// Variables that are no settings.
const OTHER: [&str; 2] = ["WEIR_CONFIG", "WEIR_LOG"];

/// The environment's variables; what is no UTF-8 is no setting, whoever it is for.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The settings that stand in the environment: `WEIR_GATEWAY__THREADS` is
/// `gateway.threads`.
pub(super) fn overrides(variables: impl Iterator<Item = (String, String)>) -> Vec<Override> {
    let is_setting =
        |(name, _): &(String, String)| name.starts_with(PREFIX) && !OTHER.contains(&&**name);
    let over = |(variable, value): (String, String)| {
        let path = variable[PREFIX.len()..].to_lowercase().replace("__", ".");
        Override { variable, path, value }
    };
    let mut overrides: Vec<Override> = variables.filter(is_setting).map(over).collect();
    overrides.sort_by(|a, b| a.variable.cmp(&b.variable));
    overrides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_with_the_prefix_are_settings() {
        let variables = [
            ("WEIR_NODE", "edge-1"),
            ("WEIR_GATEWAY__THREADS", "2"),
            ("WEIR_CONFIG", "weir.yaml"),
            ("HOME", "/root"),
        ];
        let found = overrides(variables.map(|(n, v)| (n.to_owned(), v.to_owned())).into_iter());
        let found: Vec<_> = found.iter().map(|o| (&*o.path, &*o.value)).collect();
        assert_eq!(found, [("gateway.threads", "2"), ("node", "edge-1")]);
    }
}
