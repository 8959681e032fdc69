//! How much a text may ask for, before it is planned.
//!
//! A plan is as deep as an expression is long, and is worked through by calls within calls; a
//! text of a few kilobytes could take all of a stack, and the node with it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::{Expr, Query, TableFactor, Visit as _, Visitor};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, PostgreSqlDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::Error;

/// The most operators of a query: signs, and words such as AND.
pub(crate) const OPERATORS_MAX: usize = 1_000;
/// The most SELECTs of a query, by UNION or within one another.
const SELECTS_MAX: usize = 100;
/// The most of ROLLUP and GROUPING SETS.
const SETS_MAX: usize = 2;
/// The most tables that a query reads, each as often as it is named.
const TABLES_MAX: usize = 50;

/// Refuses a text that has too much of what makes a plan deep. It is counted as each of the
/// dialects reads it by which it may be parsed, since a text may hide in a literal of one what
/// another reads. What is no SQL is for the parser to refuse.
pub(crate) fn check_text(text: &str, operators_max: usize) -> Result<(), Error> {
    let dialects: [&dyn Dialect; 2] = [&GenericDialect {}, &PostgreSqlDialect {}];
    for dialect in dialects {
        if let Ok(tokens) = Tokenizer::new(dialect, text).tokenize() {
            check_tokens(&tokens, operators_max)?;
        }
    }
    Ok(())
}

fn check_tokens(tokens: &[Token], operators_max: usize) -> Result<(), Error> {
    let (mut operators, mut selects, mut sets) = (0, 0, 0);
    for token in tokens {
        match token {
            Token::Word(word) if word.keyword == Keyword::SELECT => selects += 1,
            Token::Word(word) if is_of_sets(word.keyword) => sets += 1,
            Token::Word(word) => operators += usize::from(is_operator(word.keyword)),
            Token::EOF
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Whitespace(_)
            | Token::Comma
            | Token::Period
            | Token::LParen
            | Token::RParen
            | Token::SemiColon
            | Token::Placeholder(_) => {}
            _ => operators += 1,
        }
    }
    let refuse = |what: &str, has: usize, max: usize| {
        let mend = "ask for less at once, or for what is IN a list";
        Err(Error::Query(format!("the query has {has} {what}, and may have {max}; {mend}")))
    };
    match () {
        () if operators > operators_max => refuse("operators", operators, operators_max),
        () if selects > SELECTS_MAX => refuse("SELECTs", selects, SELECTS_MAX),
        () if sets > SETS_MAX => refuse("of ROLLUP and GROUPING SETS", sets, SETS_MAX),
        () => Ok(()),
    }
}

/// Whether groups are made of groups by it; those of several are multiplied.
fn is_of_sets(keyword: Keyword) -> bool {
    matches!(keyword, Keyword::ROLLUP | Keyword::SETS)
}

fn is_operator(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::AT
            | Keyword::MATCH
            | Keyword::MEMBER
            | Keyword::NOTNULL
            | Keyword::OPERATOR
            | Keyword::OVERLAPS
            | Keyword::REGEXP
            | Keyword::RLIKE
            | Keyword::BETWEEN
            | Keyword::COLLATE
            | Keyword::DIV
            | Keyword::EXCEPT
            | Keyword::ILIKE
            | Keyword::IN
            | Keyword::INTERSECT
            | Keyword::IS
            | Keyword::LIKE
            | Keyword::NOT
            | Keyword::OR
            | Keyword::SIMILAR
            | Keyword::UNION
            | Keyword::XOR
    )
}

/// Refuses a statement that reads too many tables, those counted that a query of WITH reads as
/// often as it is named; or that groups by CUBE, which doubles its groups with each column.
pub(crate) fn check_statement(statement: &ParsedStatement) -> Result<(), Error> {
    let statement = match statement {
        ParsedStatement::Statement(statement) => statement,
        ParsedStatement::Explain(explain) => return check_statement(&explain.statement),
        // Nothing of these is planned.
        _ => return Ok(()),
    };
    let mut count = Count::default();
    let _ = statement.visit(&mut count);
    if count.has_cube {
        return Err(Error::Query("CUBE is not there; name the GROUPING SETS".to_owned()));
    }
    let tables = count.tables;
    if tables > TABLES_MAX {
        return Err(Error::Query(format!(
            "the query reads {tables} tables, and may read {TABLES_MAX}; ask for less at once"
        )));
    }
    Ok(())
}

/// Counts the tables of a statement, query by query, the innermost first.
#[derive(Default)]
struct Count {
    tables: usize,
    has_cube: bool,
    /// Of the queries that are being looked at, what was counted before them.
    outer: Vec<usize>,
    /// The queries of WITH by where they stand, and how many tables each reads.
    named: HashMap<*const Query, String>,
    known: HashMap<String, usize>,
}

impl Visitor for Count {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for of in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = of.alias.name.value.to_ascii_lowercase();
            self.named.insert(&raw const *of.query, name);
        }
        self.outer.push(std::mem::take(&mut self.tables));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let inside = std::mem::replace(&mut self.tables, self.outer.pop().unwrap_or(0));
        match self.named.remove(&(&raw const *query)) {
            Some(name) => {
                self.known.insert(name, inside.max(1));
            }
            None => self.tables = self.tables.saturating_add(inside),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let name = match factor {
            TableFactor::Table { name, .. } => name.to_string().to_ascii_lowercase(),
            // What it is made of is counted besides.
            _ => String::new(),
        };
        let reads = self.known.get(&name).copied().unwrap_or(1);
        self.tables = self.tables.saturating_add(reads);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.has_cube |= match expr {
            Expr::Cube(_) => true,
            Expr::Function(of) => of.name.to_string().eq_ignore_ascii_case("cube"),
            _ => false,
        };
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_with_counts_as_often_as_it_is_named() {
        let doubled = |times: usize| {
            let first = "WITH a0 AS (SELECT 1 AS x)".to_owned();
            let with = (1..=times).fold(first, |with, at| {
                let of = at - 1;
                format!("{with}, a{at} AS (SELECT l.x FROM a{of} l JOIN A{of} r ON l.x = r.x)")
            });
            format!("{with} SELECT * FROM a{times}")
        };
        let values = format!("SELECT 1 FROM {}", vec!["(VALUES (1))"; 60].join(", "));
        for (text, is_taken) in [
            (doubled(5), true),
            (doubled(6), false),
            (doubled(24), false),
            (values, false),
            ("SELECT 1 FROM (SELECT * FROM events e JOIN events f ON true) g".to_owned(), true),
            ("SELECT a, b FROM t GROUP BY CUBE (a, b)".to_owned(), false),
            ("SELECT a, b FROM t GROUP BY ROLLUP (a, b)".to_owned(), true),
        ] {
            let parsed = datafusion::sql::parser::DFParser::parse_sql(&text).unwrap();
            assert_eq!(check_statement(&parsed[0]).is_ok(), is_taken, "{text:.80}");
        }
    }

    #[test]
    fn what_is_counted_is_what_makes_a_plan_deep() {
        let check = |text: &str, is_taken: bool| {
            assert_eq!(check_text(text, OPERATORS_MAX).is_ok(), is_taken, "{text:.60}");
        };
        check(&format!("SELECT {}", vec!["a"; 1_001].join(" + ")), true);
        check(&format!("SELECT {}", vec!["a"; 1_002].join(" + ")), false);
        check(&format!("SELECT {}", vec!["a"; 1_002].join(" OR ")), false);
        check(&format!("SELECT {}a", "NOT ".repeat(1_001)), false);
        check(&format!("SELECT {}a", "- ".repeat(1_001)), false);
        check(&format!("SELECT a{}", "::text".repeat(1_001)), false);
        check(&vec!["SELECT 1"; 101].join(" UNION ALL "), false);
        check(&format!("SELECT a IN ({})", vec!["'b'"; 50_000].join(", ")), true);
        check("what is this '", true);
        // As one dialect reads it, all of it is a literal.
        check(&format!("SELECT q'[', {} --]'", vec!["1"; 2_000].join(" + ")), false);
        check(&format!("SELECT now(){}", " AT TIME ZONE 'UTC'".repeat(1_001)), false);
    }
}
