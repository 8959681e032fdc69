use std::collections::BTreeMap;

use arrow::array::{Array as _, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use fastrand::Rng;
use serde_json::json;

use super::*;
use crate::sql::named_user;

/// id, region, card, amount; the last row is of another region, and its amount is 0.
const ROWS: [(i64, &str, Option<&str>, i64); 4] = [
    (1, "eu", Some("4111"), 10),
    (2, "eu", Some("5500"), 20),
    (3, "us", None, 30),
    (4, "us", Some("3400"), 0),
];

fn payments() -> Arc<dyn TableProvider> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("region", DataType::Utf8, false),
        Field::new("card", DataType::Utf8, true),
        Field::new("amount", DataType::Int64, false),
    ]));
    let rows = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int64Array::from_iter_values(ROWS.map(|row| row.0))),
            Arc::new(StringArray::from_iter_values(ROWS.map(|row| row.1))),
            Arc::new(StringArray::from_iter(ROWS.map(|row| row.2))),
            Arc::new(Int64Array::from_iter_values(ROWS.map(|row| row.3))),
        ],
    );
    Arc::new(MemTable::try_new(schema, vec![vec![rows.unwrap()]]).unwrap())
}

/// The rights of `ann`, by what each of her roles gives.
fn rights(roles: &[serde_json::Value]) -> Rights {
    let role = |(at, tables): (usize, &serde_json::Value)| {
        let role = json!({ "tables": tables });
        (Name::new(&format!("role-{at}")).unwrap(), serde_json::from_value(role).unwrap())
    };
    let roles = roles.iter().enumerate().map(role).collect();
    Rights { user: Name::new("ann").unwrap(), roles }
}

fn session(rights: &Rights) -> SessionContext {
    let session = SessionContext::new();
    session.register_udf(named_user("current_user", "ann"));
    if let Some(table) = rights.table(&session.state(), "payments", payments()) {
        session.register_table("payments", table).unwrap();
    }
    session
}

/// The rows of a query, a line each, or why there are none.
async fn ask(roles: &[serde_json::Value], sql: &str) -> String {
    let session = session(&rights(roles));
    let answer = async { session.sql(sql).await?.collect().await }.await;
    match answer {
        Ok(rows) => pretty_format_batches(&rows)
            .unwrap()
            .to_string()
            .lines()
            .filter(|line| line.starts_with('|'))
            .skip(1)
            .map(|line| {
                line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
            })
            .map(|cells| cells.join(" "))
            .collect::<Vec<_>>()
            .join("; "),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_user_reads_the_rows_and_columns_that_a_role_gives() {
    let check = async |tables: serde_json::Value, sql: &str, expected: &str| {
        let found = ask(std::slice::from_ref(&tables), sql).await;
        assert!(found.contains(expected) && expected.is_empty() == found.is_empty(), "{found}");
    };
    let all = "SELECT * FROM payments ORDER BY id";
    let eu = json!({ "payments": { "rows": "region = 'eu'" } });
    check(eu.clone(), all, "1 eu 4111 10; 2 eu 5500 20").await;
    check(eu.clone(), "SELECT count(*), sum(amount) FROM payments", "2 30").await;
    check(eu.clone(), "SELECT id FROM payments WHERE region = 'us' OR amount > 0", "1; 2").await;
    check(eu, "SELECT a.id FROM payments a JOIN payments b ON b.id = a.id + 1", "1").await;
    let masked = json!({ "payments": {
        "mask": { "card": "left(card, 1) || '***'", "amount": "NULL" }, "without": ["region"],
    } });
    check(masked.clone(), all, "1 4***; 2 5***; 3; 4 3***").await;
    check(masked.clone(), "SELECT id FROM payments WHERE card = '4111'", "").await;
    check(masked.clone(), "SELECT id FROM payments WHERE card = '4***'", "1").await;
    check(masked.clone(), "SELECT id FROM payments WHERE amount IS NOT NULL", "").await;
    check(masked, "SELECT id FROM payments WHERE region = 'eu'", "No field named region").await;
    let some = json!({ "payments": { "columns": ["id", "card"] } });
    check(some, "SELECT * FROM payments WHERE id = 1", "1 4111").await;
    let own = json!({ "payments": { "rows": "region = 'eu' AND current_user = 'ann'" } });
    check(own, "SELECT id FROM payments ORDER BY id", "1; 2").await;
    // What a rule says of a row without saying yes is no.
    let of_card = json!({ "payments": { "rows": "card <> '4111'" } });
    check(of_card, "SELECT id FROM payments ORDER BY id", "2; 4").await;
    for (tables, whole) in [
        (json!({ "payments": {} }), "4"),
        (json!({ "*": {} }), "4"),
        (json!({ "*": {}, "payments": { "rows": "id = 1" } }), "1"),
    ] {
        check(tables, "SELECT count(*) FROM payments", whole).await;
    }
    check(json!({ "other": {} }), all, "table 'datafusion.public.payments' not found").await;
}

#[tokio::test]
async fn a_condition_that_fails_tells_nothing_of_rows_that_are_not_seen() {
    let tables = json!({ "payments": { "rows": "amount <> 0", "mask": { "card": "'?'" } } });
    for (sql, expected) in [
        ("SELECT id FROM payments WHERE 60 / amount > 2 ORDER BY id", "1; 2"),
        ("SELECT id FROM payments WHERE 60 / amount > 2 AND id < 2", "1"),
        ("SELECT id FROM payments WHERE CAST(card AS BIGINT) > 0", "Cannot cast string '?'"),
        ("SELECT id FROM payments WHERE CASE WHEN id = 4 THEN 1 / amount ELSE 1 END = 0", ""),
    ] {
        let found = ask(std::slice::from_ref(&tables), sql).await;
        assert!(found.contains(expected) && expected.is_empty() == found.is_empty(), "{found}");
    }
    // Without the barrier it would: the same part as a view.
    let rights = rights(&[tables]);
    let session = SessionContext::new();
    let given = rights.given("payments");
    let plan =
        expression::plan(&session.state(), &rights.user, "payments", payments(), &given).unwrap();
    let view = datafusion::catalog::view::ViewTable::new(plan, None);
    session.register_table("payments", Arc::new(view)).unwrap();
    let asked = session.sql("SELECT id FROM payments WHERE 60 / amount > 2").await.unwrap();
    let told = asked.collect().await.unwrap_err().to_string();
    assert!(told.contains("Divide by zero"), "{told}");
}

#[tokio::test]
async fn what_tells_how_a_table_is_read_is_known_by_its_plan() {
    let bound = async |tables: serde_json::Value, sql: &str| {
        let session = session(&rights(&[tables]));
        is_bound(&session.state().create_logical_plan(sql).await.unwrap()).unwrap()
    };
    let part = json!({ "payments": { "rows": "id = 1" } });
    for sql in [
        "EXPLAIN SELECT * FROM payments",
        "EXPLAIN ANALYZE SELECT 1 WHERE EXISTS (SELECT 1 FROM payments)",
        "WITH p AS (SELECT * FROM payments) SELECT count(*) FROM p",
    ] {
        assert!(bound(part.clone(), sql).await, "{sql}");
        assert!(!bound(json!({ "*": {} }), sql).await, "{sql}");
    }
    assert!(!bound(part, "EXPLAIN SELECT 1").await);
}

#[tokio::test]
async fn a_rule_that_does_not_fit_gives_nothing_and_says_so() {
    let check = async |given: serde_json::Value, expected: &str| {
        let found = ask(&[json!({ "payments": given })], "SELECT * FROM payments").await;
        assert!(found.contains(expected), "{found}");
        assert!(!found.contains("4111"), "{found}");
    };
    check(json!({ "rows": "regio = 'eu'" }), "the role role-0: its rule rows: cannot be read")
        .await;
    check(json!({ "rows": "amount" }), "rows: gives Int64, and no condition").await;
    check(json!({ "rows": "count(*) > 1" }), "it asks for several rows").await;
    check(json!({ "rows": "random() > 0.5" }), "something else each time, by random").await;
    check(json!({ "rows": "id IN (SELECT 1)" }), "it asks for other tables").await;
    check(json!({ "rows": "id = 1 OR" }), "rows: cannot be read").await;
    check(json!({ "columns": ["cart"] }), "columns[0]: the table has no column cart; did you mean")
        .await;
    check(json!({ "without": ["none"] }), "without[0]: the table has no column none").await;
    check(json!({ "mask": { "card": "17" } }), "mask.card: gives Int64, and the column is Utf8")
        .await;
    // Another role gives what it gives.
    let roles =
        [json!({ "payments": { "rows": "id = 1" } }), json!({ "payments": { "rows": "x" } })];
    assert!(ask(&roles, "SELECT * FROM payments").await.contains("the role role-1"));
}

#[test]
fn what_is_wrong_with_a_role_is_found_before_it_is_applied() {
    let check = |tables: serde_json::Value, expected: &[&str]| {
        let role: Role = serde_json::from_value(json!({ "tables": tables })).unwrap();
        let faults = super::check(&role).err().unwrap_or_default();
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{fault}");
        }
    };
    check(json!({ "events": { "rows": "api_name = 'orders' AND app_owner = current_user" } }), &[]);
    check(
        json!({ "events": { "mask": { "client_address": "sha256(client_address)" } } }),
        &["tables.events.mask.client_address: gives Binary"],
    );
    check(json!({ "events": { "mask": { "client_address": "md5(client_address)" } } }), &[]);
    check(
        json!({ "events": { "rows": "api = 'orders'" }, "traffic": { "rows": "api =" } }),
        &[
            "tables.events.rows: cannot be read: there is no column api;",
            "tables.traffic.rows: cannot be read",
        ],
    );
    // Whose columns are known only where the table is.
    check(json!({ "traffic": { "rows": "anything > 1", "mask": { "api": "NULL" } } }), &[]);
}

/// What several roles give, against what each gives of each row.
#[tokio::test]
async fn of_a_row_a_user_sees_what_the_best_of_its_roles_gives() {
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    for _ in 0..300 {
        let roles = random.usize(1..=4);
        let (mut tables, mut given) = (Vec::new(), Vec::new());
        for _ in 0..roles {
            let ids: Vec<i64> = (1..=4).filter(|_| random.bool()).collect();
            let all = random.u8(..4) == 0;
            let column = random.u8(..3);
            let mut rights = json!({});
            if !all {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                rights["rows"] = match ids.is_empty() {
                    true => json!("false"),
                    false => json!(format!("id IN ({})", ids.join(", "))),
                };
            }
            match column {
                0 => rights["without"] = json!(["card"]),
                1 => rights["mask"] = json!({ "card": format!("'mask-{}'", given.len()) }),
                _ => {}
            }
            tables.push(json!({ "payments": rights }));
            given.push((all, ids, column));
        }
        let session = session(&rights(&tables));
        let asked = session.sql("SELECT * FROM payments").await.unwrap();
        let mut seen = BTreeMap::new();
        for batch in asked.collect().await.unwrap() {
            let ids = batch["id"].as_primitive::<Int64Type>().values().to_vec();
            let cards = batch.column_by_name("card").cloned();
            for (at, id) in ids.into_iter().enumerate() {
                let cards = cards.as_ref().map(|cards| cards.as_string::<i32>());
                let card = cards.filter(|cards| cards.is_valid(at));
                seen.insert(id, card.map(|cards| cards.value(at).to_owned()));
            }
        }
        let mut expected = BTreeMap::new();
        for (id, _, card, _) in ROWS {
            let giving =
                |(_, (all, ids, _)): &(usize, &(bool, Vec<i64>, u8))| *all || ids.contains(&id);
            let giving: Vec<_> = given.iter().enumerate().filter(giving).collect();
            if giving.is_empty() {
                continue;
            }
            let plain = giving.iter().any(|(_, (.., column))| *column == 2);
            let masked = giving.iter().find(|(_, (.., column))| *column == 1);
            let value = match (plain, masked) {
                (true, _) => card.map(str::to_owned),
                (false, Some((at, _))) => Some(format!("mask-{at}")),
                (false, None) => None,
            };
            expected.insert(id, value);
        }
        assert_eq!(seen, expected, "seed {seed}: {tables:?}");
    }
}
