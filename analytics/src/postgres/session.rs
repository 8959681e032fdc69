//! The statements of one connection.

use std::sync::{Arc, OnceLock};

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_pg::datatypes::df::deserialize_parameters;
use arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch, into_pg_type};
use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures_util::{Sink, stream};
use ingest::http::Caller;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldInfo, QueryResponse, Response};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::Execute;
use pgwire::messages::response::TransactionStatus;
use pgwire::types::format::FormatOptions;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::sqlstate::{
    self, IN_FAILED_TRANSACTION, INVALID_PASSWORD, PROGRAM_LIMIT_EXCEEDED, SYNTAX_ERROR,
};
use super::{control, functions};
use crate::sql::{
    Answer, Described, Error, OPERATORS_MAX, Sql, bytes_of, bytes_of_values, check_text,
};

/// How many statements one message may have.
const STATEMENTS_MAX: usize = 100;

/// One connection's session.
pub(super) struct Session {
    sql: Sql,
    /// Who has logged in.
    caller: Arc<OnceLock<Caller>>,
    parser: PostgresCompatibilityParser,
    /// With `pg_catalog`; made for who has logged in. One statement has it at a time, also
    /// one that was broken off, until it has ended.
    context: Arc<Mutex<Option<SessionContext>>>,
}

/// What the statements of one message have answered.
#[derive(Debug, Default)]
struct Taken {
    rows: usize,
    bytes: usize,
}

/// The session in the hands of a statement. It keeps no rows beyond it.
struct Context {
    sql: Sql,
    held: OwnedMutexGuard<Option<SessionContext>>,
}

impl Context {
    fn get(&self) -> &SessionContext {
        self.held.as_ref().expect("it was made before")
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Err(error) = self.sql.empty(self.get()) {
            tracing::error!(%error, "a session of postgres keeps its tables");
        }
    }
}

/// A statement that was prepared.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    statement: Statement,
    /// Of a query.
    asks: Option<Described>,
}

impl Session {
    pub(super) fn new(sql: Sql, caller: Arc<OnceLock<Caller>>) -> Self {
        Self { sql, caller, parser: PostgresCompatibilityParser::new(), context: Arc::default() }
    }

    /// What who has logged in may ask.
    fn sql(&self) -> PgWireResult<Sql> {
        let caller = self.caller.get();
        let nobody = || sqlstate::refusal(INVALID_PASSWORD, "nobody has logged in");
        caller.map(|caller| self.sql.asked_by(caller)).ok_or_else(nobody)
    }

    async fn context(&self) -> PgWireResult<Context> {
        let sql = self.sql()?;
        // One that was broken off has it until it has ended.
        let lock = timeout(sql.time_max(), self.context.clone().lock_owned()).await;
        let mut held = lock.map_err(|_| sqlstate::of(&Error::Busy))?;
        if held.is_none() {
            let context = sql.session().map_err(|error| sqlstate::of(&error))?;
            let catalog = context.copied_config().options().catalog.default_catalog.clone();
            setup_pg_catalog(&context, &catalog, EmptyContextProvider)
                .map_err(|error| sqlstate::error("XX000", error.to_string()))?;
            functions::register(&context);
            sql.name_user(&context);
            *held = Some(context);
        }
        Ok(Context { sql, held })
    }

    fn parse(&self, text: &str) -> PgWireResult<Vec<Statement>> {
        check_text(text, OPERATORS_MAX).map_err(|error| sqlstate::of(&error))?;
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

    async fn prepare(&self, statement: Statement) -> PgWireResult<Described> {
        let context = self.context().await?;
        let sql = context.sql.clone();
        let limited = sql.clone();
        let planned = limited.within_limits(Box::pin(async move {
            sql.fill(context.get(), None).await?;
            let plan = sql.plan(context.get(), statement, 0).await?;
            Described::of(&plan)
        }));
        planned.await.map_err(|error| sqlstate::of(&error))
    }

    /// Runs a query over what was read by now.
    async fn run(
        &self,
        statement: Statement,
        parameters: Option<ParamValues>,
    ) -> PgWireResult<Answer> {
        let context = self.context().await?;
        let sql = context.sql.clone();
        let limited = sql.clone();
        let answered = limited.within_limits(Box::pin(async move {
            let offsets = sql.fill(context.get(), None).await?;
            let bytes = parameters.as_ref().map_or(0, bytes_of_values);
            let mut plan = sql.plan(context.get(), statement, bytes).await?;
            if let Some(parameters) = parameters {
                let with = plan.replace_params_with_values(&parameters);
                plan = with.map_err(|error| Error::Query(error.strip_backtrace()))?;
            }
            sql.answer(context.get(), plan, offsets).await
        }));
        answered.await.map_err(|error| sqlstate::of(&error))
    }

    /// Runs one of the statements of a message, of which those before have taken so much.
    async fn one<C: ClientInfo + Sync>(
        &self,
        statement: Statement,
        has_failed: bool,
        taken: &mut Taken,
        client: &C,
    ) -> PgWireResult<Response> {
        if let Some(said) = said(&statement, has_failed) {
            return said;
        }
        let answer = match shown(&statement) {
            Some(shown) => shown,
            None => self.run(statement, None).await?,
        };
        taken.rows += answer.batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        taken.bytes += answer.batches.iter().map(bytes_of).sum::<usize>();
        if taken.rows > self.sql.rows_max() {
            return Err(too_many(self.sql.rows_max()));
        }
        if taken.bytes > self.sql.bytes_max() {
            return Err(sqlstate::of(&Error::Memory(self.sql.bytes_max())));
        }
        self.response(answer, &Format::UnifiedText, client, 0)
    }

    /// The rows of an answer for a client that wants `rows_wanted` of them, all if it is 0;
    /// who fetches more of them than there may be is told so at their end.
    fn response<C: ClientInfo>(
        &self,
        answer: Answer,
        format: &Format,
        client: &C,
        rows_wanted: usize,
    ) -> PgWireResult<Response> {
        let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
        let cut = answer.cut.then(|| too_many(rows));
        let cut = match cut {
            Some(cut) if rows_wanted == 0 => return Err(cut),
            cut => cut,
        };
        let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
        let fields = arrow_schema_to_pg_fields(&answer.schema, format, Some(options))?;
        let fields = Arc::new(fields);
        let of_batch = fields.clone();
        let rows = answer.batches.into_iter();
        let rows = rows.flat_map(move |batch| encode_recordbatch(of_batch.clone(), batch));
        let rows = rows.chain(cut.map(Err));
        Ok(Response::Query(QueryResponse::new(fields, stream::iter(rows))))
    }
}

/// What a statement says that is none of a query, in a transaction that has failed or not.
fn said(statement: &Statement, has_failed: bool) -> Option<PgWireResult<Response>> {
    let answer = control::answer(statement, has_failed);
    let ends = matches!(answer, Some(Ok(Response::TransactionEnd(_))));
    if has_failed && !ends {
        let message = "the transaction has failed; end it by ROLLBACK";
        return Some(Err(sqlstate::error(IN_FAILED_TRANSACTION, message)));
    }
    answer
}

fn too_many(rows: usize) -> PgWireError {
    let message = format!(
        "the answer has more than {rows} rows, which is the most that a query may give; add \
         LIMIT {rows}, or ask for less"
    );
    sqlstate::error(PROGRAM_LIMIT_EXCEEDED, message)
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
        let mut has_failed = client.transaction_status() == TransactionStatus::Error;
        let mut taken = Taken::default();
        for statement in statements {
            match session.one(statement, has_failed, &mut taken, client).await {
                Ok(response) => {
                    has_failed &= !matches!(response, Response::TransactionEnd(_));
                    responses.push(response);
                }
                // What was answered before it stands; what comes after it is not run.
                Err(error) => {
                    responses.push(Response::Error(Box::new(error.into())));
                    break;
                }
            }
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

    async fn on_execute<C>(&self, client: &mut C, mut message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: std::fmt::Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        // Room is made for as many rows as a client says that it wants.
        let most = i32::try_from(self.0.sql.rows_max()).unwrap_or(i32::MAX).saturating_add(1);
        message.max_rows = message.max_rows.clamp(0, most);
        self._on_execute(client, message).await
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
        let Prepared { statement, asks } = &portal.statement.statement;
        let session = &self.0;
        let has_failed = client.transaction_status() == TransactionStatus::Error;
        if let Some(said) = said(statement, has_failed) {
            if let Ok(Response::TransactionEnd(_)) = said {
                client.portal_store().clear_portals();
            }
            return said;
        }
        let answer = match (shown(statement), asks) {
            (Some(shown), _) => shown,
            (None, Some(asks)) => {
                let types: Vec<_> = asks.parameters.iter().map(Option::as_ref).collect();
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
        let is_query = control::answer(&statement, false).is_none() && shown(&statement).is_none();
        let asks = match is_query {
            true => Some(self.prepare(statement.clone()).await?),
            false => None,
        };
        Ok(Some(Prepared { statement, asks }))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        let Some(asks) = &prepared.asks else { return Ok(Vec::new()) };
        let of_type = |of: &Option<DataType>| match of {
            Some(of) => into_pg_type(of),
            None => Ok(Type::UNKNOWN),
        };
        asks.parameters.iter().map(of_type).collect()
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
        match &prepared.asks {
            Some(asks) => arrow_schema_to_pg_fields(&asks.schema, format, None),
            None => Ok(Vec::new()),
        }
    }
}
