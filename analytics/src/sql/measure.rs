//! How much a text may ask for, before it is planned.
//!
//! A plan is as deep as an expression is long, and is worked through by calls within calls; a
//! text of a few kilobytes could take all of a stack, and the node with it.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::visit_relations;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::Error;

/// The most operators of a query: signs, and words such as AND.
pub(crate) const OPERATORS_MAX: usize = 1_000;
/// The most SELECTs of a query, by UNION or within one another.
const SELECTS_MAX: usize = 100;
/// The most tables that a query reads, each as often as it is named.
const TABLES_MAX: usize = 50;

/// Refuses a text that has too much of what makes a plan deep. What is no SQL is for the
/// parser to refuse.
pub(crate) fn check_text(text: &str, operators_max: usize) -> Result<(), Error> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize() else { return Ok(()) };
    let (mut operators, mut selects) = (0, 0);
    for token in &tokens {
        match token {
            Token::Word(word) if word.keyword == Keyword::SELECT => selects += 1,
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
        () => Ok(()),
    }
}

fn is_operator(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
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

/// Refuses a statement that reads too many tables.
pub(crate) fn check_statement(statement: &ParsedStatement) -> Result<(), Error> {
    let statement = match statement {
        ParsedStatement::Statement(statement) => statement,
        ParsedStatement::Explain(explain) => return check_statement(&explain.statement),
        // Nothing of these is planned.
        _ => return Ok(()),
    };
    let mut tables = 0;
    let _ = visit_relations(&**statement, |_| {
        tables += 1;
        ControlFlow::<()>::Continue(())
    });
    if tables > TABLES_MAX {
        return Err(Error::Query(format!(
            "the query reads {tables} tables, and may read {TABLES_MAX}; ask for less at once"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
