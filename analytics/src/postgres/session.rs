//! The statements of one connection.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_pg::datatypes::df::deserialize_parameters;
use arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch, into_pg_type};
use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures_util::{Sink, stream};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldInfo, QueryResponse, Response};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::TransactionStatus;
use pgwire::types::format::FormatOptions;
use tokio::sync::OnceCell;

use super::sqlstate::{self, IN_FAILED_TRANSACTION, PROGRAM_LIMIT_EXCEEDED, SYNTAX_ERROR};
use super::{control, functions};
use crate::sql::{Answer, Error, Sql};

/// How many statements one message may have.
const STATEMENTS_MAX: usize = 100;

/// One connection's session.
pub(super) struct Session {
    sql: Sql,
    parser: PostgresCompatibilityParser,
    /// With `pg_catalog`; made for who has logged in.
    context: OnceCell<SessionContext>,
}

/// A statement that was prepared.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    statement: Statement,
    /// Of a query.
    plan: Option<LogicalPlan>,
}

impl Session {
    pub(super) fn new(sql: Sql) -> Self {
        Self { sql, parser: PostgresCompatibilityParser::new(), context: OnceCell::new() }
    }

    async fn context(&self) -> PgWireResult<SessionContext> {
        let made = self.context.get_or_try_init(|| async {
            let context = self.sql.session().map_err(|error| sqlstate::of(&error))?;
            let catalog = context.copied_config().options().catalog.default_catalog.clone();
            setup_pg_catalog(&context, &catalog, EmptyContextProvider)
                .map_err(|error| sqlstate::error("XX000", error.to_string()))?;
            functions::register(&context);
            Ok::<_, PgWireError>(context)
        });
        made.await.cloned()
    }

    fn parse(&self, text: &str) -> PgWireResult<Vec<Statement>> {
        let parsed = self.parser.parse(text);
        let statements = parsed.map_err(|error| {
            let told = error.to_string();
            let told = told.strip_prefix("sql parser error: ").unwrap_or(&told);
            sqlstate::error(SYNTAX_ERROR, told)
        })?;
        if statements.len() > STATEMENTS_MAX {
            let message = format!(
                "these are {} statements; send {STATEMENTS_MAX} at a time",
                statements.len()
            );
            return Err(sqlstate::error(PROGRAM_LIMIT_EXCEEDED, message));
        }
        Ok(statements)
    }

    async fn plan(&self, statement: Statement) -> PgWireResult<LogicalPlan> {
        let (sql, context) = (self.sql.clone(), self.context().await?);
        let planned = self.sql.within_limits(Box::pin(async move {
            sql.fill(&context, None).await?;
            sql.plan(&context, statement).await
        }));
        planned.await.map_err(|error| sqlstate::of(&error))
    }

    /// Runs a query over what was read by now.
    async fn run(
        &self,
        statement: Statement,
        parameters: Option<ParamValues>,
    ) -> PgWireResult<Answer> {
        let (sql, context) = (self.sql.clone(), self.context().await?);
        let answered = self.sql.within_limits(Box::pin(async move {
            let offsets = sql.fill(&context, None).await?;
            let mut plan = sql.plan(&context, statement).await?;
            if let Some(parameters) = parameters {
                let with = plan.replace_params_with_values(&parameters);
                plan = with.map_err(|error| Error::Query(error.strip_backtrace()))?;
            }
            sql.answer(&context, plan, offsets).await
        }));
        answered.await.map_err(|error| sqlstate::of(&error))
    }

    /// What a statement says that is none of a query.
    fn said<C: ClientInfo>(
        &self,
        statement: &Statement,
        client: &C,
    ) -> Option<PgWireResult<Response>> {
        let answer = control::answer(statement);
        let ends = matches!(answer, Some(Ok(Response::TransactionEnd(_))));
        if client.transaction_status() == TransactionStatus::Error && !ends {
            let message = "the transaction has failed; end it by ROLLBACK";
            return Some(Err(sqlstate::error(IN_FAILED_TRANSACTION, message)));
        }
        answer
    }

    /// The rows of an answer for a client that wants `rows_wanted` of them, all if it is 0.
    fn response<C: ClientInfo>(
        &self,
        answer: Answer,
        format: &Format,
        client: &C,
        rows_wanted: usize,
    ) -> PgWireResult<Response> {
        let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
        if answer.cut && (rows_wanted == 0 || rows_wanted > rows) {
            let message = format!(
                "the answer has more than {rows} rows, which is the most that a query may give; \
                 add LIMIT {rows}, or ask for less"
            );
            return Err(sqlstate::error(PROGRAM_LIMIT_EXCEEDED, message));
        }
        let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
        let fields = arrow_schema_to_pg_fields(&answer.schema, format, Some(options))?;
        let fields = Arc::new(fields);
        let of_batch = fields.clone();
        let rows = answer.batches.into_iter();
        let rows = rows.flat_map(move |batch| encode_recordbatch(of_batch.clone(), batch));
        Ok(Response::Query(QueryResponse::new(fields, stream::iter(rows))))
    }
}

/// The one row that shows a setting.
fn shown(statement: &Statement) -> Option<Answer> {
    let (name, value) = control::shown(statement)?;
    let schema = Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, false)]));
    let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(vec![value]))]);
    let batches = vec![rows.expect("the row was made by the schema")];
    Some(Answer { schema, batches, cut: false, offsets: Vec::new() })
}

/// What a connection asks, one statement after another.
pub(super) struct Queries(pub(super) Arc<Session>);

#[async_trait]
impl SimpleQueryHandler for Queries {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = &self.0;
        let statements = session.parse(query)?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut responses = Vec::with_capacity(statements.len());
        for statement in statements {
            let response = match session.said(&statement, client) {
                Some(said) => said?,
                None => {
                    let answer = match shown(&statement) {
                        Some(shown) => shown,
                        None => session.run(statement, None).await?,
                    };
                    session.response(answer, &Format::UnifiedText, client, 0)?
                }
            };
            responses.push(response);
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Queries {
    type Statement = Prepared;
    type QueryParser = Session;

    fn query_parser(&self) -> Arc<Session> {
        self.0.clone()
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let Prepared { statement, plan } = &portal.statement.statement;
        let session = &self.0;
        if let Some(said) = session.said(statement, client) {
            return said;
        }
        let answer = match (shown(statement), plan) {
            (Some(shown), _) => shown,
            (None, Some(plan)) => {
                let types: Vec<Option<DataType>> =
                    parameters(plan)?.into_iter().map(|(_, of)| of).collect();
                let types: Vec<Option<&DataType>> = types.iter().map(Option::as_ref).collect();
                let values = deserialize_parameters(portal, &types)?;
                session.run(statement.clone(), Some(values)).await?
            }
            (None, None) => return Ok(Response::EmptyQuery),
        };
        session.response(answer, &portal.result_column_format, client, max_rows)
    }
}

#[async_trait]
impl QueryParser for Session {
    type Statement = Prepared;

    async fn parse_sql<C>(
        &self,
        _client: &C,
        sql: &str,
        _types: &[Option<Type>],
    ) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = self.parse(sql)?;
        if statements.len() > 1 {
            let message = "one statement at a time can be prepared";
            return Err(sqlstate::error(SYNTAX_ERROR, message));
        }
        let Some(statement) = statements.pop() else { return Ok(None) };
        let asks = control::answer(&statement).is_none() && control::shown(&statement).is_none();
        let plan = match asks {
            true => Some(self.plan(statement.clone()).await?),
            false => None,
        };
        Ok(Some(Prepared { statement, plan }))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        let Some(plan) = &prepared.plan else { return Ok(Vec::new()) };
        let of_type = |(_, of): (u32, Option<DataType>)| match of {
            Some(of) => into_pg_type(&of),
            None => Ok(Type::UNKNOWN),
        };
        parameters(plan)?.into_iter().map(of_type).collect()
    }

    fn get_result_schema(
        &self,
        prepared: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let format = format.unwrap_or(&Format::UnifiedText);
        if let Some(shown) = shown(&prepared.statement) {
            return arrow_schema_to_pg_fields(&shown.schema, format, None);
        }
        match &prepared.plan {
            Some(plan) => arrow_schema_to_pg_fields(plan.schema().as_arrow(), format, None),
            None => Ok(Vec::new()),
        }
    }
}

/// The parameters of a plan by their number, and the type of each as far as it is known.
fn parameters(plan: &LogicalPlan) -> PgWireResult<Vec<(u32, Option<DataType>)>> {
    let types = plan.get_parameter_types();
    let types = types.map_err(|error| sqlstate::error(SYNTAX_ERROR, error.strip_backtrace()))?;
    let number = |name: &str| name.trim_start_matches('$').parse().unwrap_or(u32::MAX);
    let mut types: Vec<_> = types.iter().map(|(name, of)| (number(name), of.clone())).collect();
    types.sort_by_key(|(number, _)| *number);
    Ok(types)
}
