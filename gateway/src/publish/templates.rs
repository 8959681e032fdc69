// Who calls chooses none of the keys, so they need no guard against collisions.
use foldhash::HashMap;
use http::Method;
use ingest::registry::kind::Method as Listed;

/// The path templates of an API, by which a request's resource is found.
///
/// They are compared segment by segment, from the left on: a fixed segment comes before a
/// `{part}`, and that before a `/*`, which stands for any number of segments, also for
/// none. Which methods the template takes is asked after that. Each node of the tree is
/// looked at once at most, so a path costs no more than the templates are many.
#[derive(Default)]
pub(super) struct Templates {
    fixed: HashMap<Box<str>, Templates>,
    part: Option<Box<Templates>>,
    /// What ends here.
    whole: Entry,
    /// What ends here in `/*`.
    open: Entry,
}

/// The resources of one template, by method.
#[derive(Default)]
pub(super) struct Entry(Vec<(Listed, usize)>);

impl Templates {
    /// Adds a resource, by its place in the API. Of two for the same requests, whatever
    /// their parts are called, the first stays.
    pub(super) fn add(&mut self, path: &str, methods: &[Listed], index: usize) {
        let fixed = path.strip_suffix("/*");
        let node =
            fixed.unwrap_or(path).split('/').skip(1).fold(self, |node, segment| {
                match segment.starts_with('{') {
                    true => node.part.get_or_insert_default(),
                    false => node.fixed.entry(segment.into()).or_default(),
                }
            });
        let Entry(listed) = if fixed.is_some() { &mut node.open } else { &mut node.whole };
        for method in methods {
            if !listed.iter().any(|(of, _)| of == method) {
                listed.push((*method, index));
            }
        }
    }

    /// The entry for a path, which begins with `/`.
    pub(super) fn find(&self, path: &str) -> Option<&Entry> {
        let here = match path.strip_prefix('/') {
            None => self.whole.any(),
            Some(path) => {
                let (segment, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
                let fixed = self.fixed.get(segment).and_then(|node| node.find(rest));
                let part = self.part.as_ref().filter(|_| !segment.is_empty());
                fixed.or_else(|| part?.find(rest))
            }
        };
        here.or_else(|| self.open.any())
    }
}

impl Entry {
    fn any(&self) -> Option<&Self> {
        (!self.0.is_empty()).then_some(self)
    }

    pub(super) fn find(&self, method: &Method) -> Option<usize> {
        let asked = listed(method)?;
        let find = |method| self.0.iter().find(|(m, _)| *m == method).map(|(_, index)| *index);
        find(asked).or_else(|| if asked == Listed::Head { find(Listed::Get) } else { None })
    }

    /// The value of `Allow` (RFC 9110, section 10.2.1).
    pub(super) fn allow(&self) -> String {
        let has = |method| self.0.iter().any(|(m, _)| *m == method);
        let allowed = ALL
            .iter()
            .filter(|(method, _)| has(*method) || (*method == Listed::Head && has(Listed::Get)));
        allowed.map(|(_, text)| *text).collect::<Vec<_>>().join(", ")
    }
}

const ALL: [(Listed, &str); 7] = [
    (Listed::Get, "GET"),
    (Listed::Head, "HEAD"),
    (Listed::Post, "POST"),
    (Listed::Put, "PUT"),
    (Listed::Patch, "PATCH"),
    (Listed::Delete, "DELETE"),
    (Listed::Options, "OPTIONS"),
];

fn listed(method: &Method) -> Option<Listed> {
    ALL.iter().find(|(_, text)| *text == method.as_str()).map(|(listed, _)| *listed)
}
