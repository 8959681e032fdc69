use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, CommandGetCatalogs, CommandGetDbSchemas,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt,
    SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::handle::Handle;
use super::login::Logins;
use super::metadata::{CATALOG, SCHEMA, SQL_INFO, TABLE_TYPE, TYPE_INFO};
use super::status::{self, malformed, unwritten};
use crate::sql::{Answer, Sql};

type Rows = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;
type Greeting = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

/// A schema, and a row; some clients send empty ones besides.
const PARAMETER_MESSAGES_MAX: usize = 8;

/// What answers each kind of request.
pub(super) struct Service {
    sql: Sql,
    logins: Logins,
}

impl Service {
    pub(super) fn new(sql: Sql, logins: Logins) -> Self {
        Self { sql, logins }
    }

    /// What the sender of a request may ask.
    async fn sql_for<T>(&self, request: &Request<T>) -> Result<Sql, Status> {
        let caller = self.logins.admit(request.metadata(), request.extensions()).await?;
        Ok(self.sql.asked_by(&caller))
    }

    async fn rows(&self, sql: &Sql, handle: Handle) -> Result<Response<Rows>, Status> {
        let answer = match handle.values()? {
            Some(values) => sql.query_with(&handle.statement, values).await,
            None => sql.query(&handle.statement).await,
        };
        let Answer { schema, batches, cut, .. } = answer.map_err(|error| status::of(&error))?;
        if cut {
            let rows = sql.rows_max();
            return Err(Status::resource_exhausted(format!(
                "the answer has more than {rows} rows, which is the most that a query may give; \
                 add LIMIT {rows}, or ask for less"
            )));
        }
        Ok(written(schema, batches))
    }
}

/// What a client is told before it fetches rows.
fn info(
    request: Request<FlightDescriptor>,
    schema: &Schema,
    ticket: impl ProstMessageExt,
) -> Result<Response<FlightInfo>, Status> {
    let ticket = Ticket::new(ticket.as_any().encode_to_vec());
    let info = FlightInfo::new().try_with_schema(schema).map_err(unwritten)?;
    let info = info.with_endpoint(FlightEndpoint::new().with_ticket(ticket));
    Ok(Response::new(info.with_descriptor(request.into_inner())))
}

fn written(schema: SchemaRef, batches: Vec<RecordBatch>) -> Response<Rows> {
    let rows = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_dictionary_handling(DictionaryHandling::Resend)
        .build(stream::iter(batches.into_iter().map(Ok::<_, FlightError>)));
    Response::new(Box::pin(rows.map_err(Status::from)))
}

fn one(batch: RecordBatch) -> Response<Rows> {
    written(batch.schema(), vec![batch])
}

fn table_types() -> RecordBatch {
    let field = Field::new("table_type", DataType::Utf8, false);
    let types = Arc::new(arrow::array::StringArray::from(vec![TABLE_TYPE]));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![types]);
    batch.expect("the column was made by the schema")
}

/// Schemas as they stand in a prepared statement.
fn encoded(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: Result<IpcMessage, _> = SchemaAsIpc::new(schema, &options).try_into();
    message.map(|IpcMessage(bytes)| bytes).map_err(unwritten)
}

/// Refuses what says of itself how long it is once it is unpacked.
fn uncompressed(message: &FlightData) -> Result<(), Status> {
    let head = arrow::ipc::root_as_message(&message.data_header).map_err(malformed)?;
    let batch = head.header_as_record_batch();
    let of_values = head.header_as_dictionary_batch().and_then(|of| of.data());
    match batch.or(of_values).is_some_and(|batch| batch.compression().is_some()) {
        true => Err(malformed("parameters are not taken compressed")),
        false => Ok(()),
    }
}

fn nothing_is_written() -> Status {
    Status::unimplemented("nothing is written here: only queries are run")
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Greeting>, Status> {
        let caller = self.logins.admit(request.metadata(), request.extensions()).await?;
        let token = self.logins.give(caller);
        let header = format!("Bearer {token}");
        let greeting = HandshakeResponse { protocol_version: 0, payload: token.into() };
        let greeting: Greeting = Box::pin(stream::iter([Ok(greeting)]));
        let mut response = Response::new(greeting);
        let header = MetadataValue::try_from(header).map_err(unwritten)?;
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let sql = self.sql_for(&request).await?;
        let handle = Handle::new(query.query)?;
        let told = sql.describe(&handle.statement).await.map_err(|error| status::of(&error))?;
        info(request, &told.schema, TicketStatementQuery { statement_handle: handle.bytes() })
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let sql = self.sql_for(&request).await?;
        self.rows(&sql, Handle::read(&ticket.statement_handle)?).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let sql = self.sql_for(&request).await?;
        let handle = Handle::new(query.query)?;
        let told = sql.describe(&handle.statement).await.map_err(|error| status::of(&error))?;
        let parameters =
            told.parameters.into_iter().enumerate().map(|(at, of)| {
                Field::new(format!("${}", at + 1), of.unwrap_or(DataType::Null), true)
            });
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.bytes(),
            dataset_schema: encoded(&told.schema)?,
            parameter_schema: encoded(&Schema::new(parameters.collect::<Vec<_>>()))?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        // Nothing is kept of one.
        self.sql_for(&request).await.map(drop)
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        self.sql_for(&request).await?;
        let handle = Handle::read(&query.prepared_statement_handle)?;
        let mut left = PARAMETER_MESSAGES_MAX;
        let rows = request.into_inner().map(move |message| {
            let message = message?;
            left = left.checked_sub(1).ok_or_else(|| malformed("too many parameters"))?;
            uncompressed(&message).map(|()| message)
        });
        let rows = rows.map_err(FlightError::from);
        let mut rows = FlightRecordBatchStream::new_from_flight_data(rows);
        let mut batches = Vec::new();
        // More than one with a row is refused.
        while let Some(batch) = rows.next().await {
            batches.push(batch.map_err(malformed)?);
            if batches.iter().filter(|batch| batch.num_rows() > 0).count() > 1 {
                break;
            }
        }
        let handle = handle.with(&batches)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle.bytes()) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let sql = self.sql_for(&request).await?;
        let handle = Handle::read(&query.prepared_statement_handle)?;
        let told = sql.describe(&handle.statement).await.map_err(|error| status::of(&error))?;
        info(request, &told.schema, query)
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let sql = self.sql_for(&request).await?;
        self.rows(&sql, Handle::read(&query.prepared_statement_handle)?).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.sql_for(&request).await?;
        info(request, &query.into_builder().schema(), query)
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.sql_for(&request).await?;
        let mut catalogs = query.into_builder();
        catalogs.append(CATALOG);
        Ok(one(catalogs.build().map_err(unwritten)?))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.sql_for(&request).await?;
        info(request, &query.clone().into_builder().schema(), query)
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.sql_for(&request).await?;
        let mut schemas = query.into_builder();
        schemas.append(CATALOG, SCHEMA);
        Ok(one(schemas.build().map_err(unwritten)?))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.sql_for(&request).await?;
        info(request, &query.clone().into_builder().schema(), query)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let sql = self.sql_for(&request).await?;
        let mut tables = query.into_builder();
        for (name, schema) in sql.listed().await.map_err(|error| status::of(&error))? {
            tables.append(CATALOG, SCHEMA, name, TABLE_TYPE, &schema).map_err(unwritten)?;
        }
        Ok(one(tables.build().map_err(unwritten)?))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.sql_for(&request).await?;
        info(request, &table_types().schema(), query)
    }

    async fn do_get_table_types(
        &self,
        _: CommandGetTableTypes,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.sql_for(&request).await?;
        Ok(one(table_types()))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.sql_for(&request).await?;
        info(request, &SQL_INFO.schema(), query)
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.sql_for(&request).await?;
        Ok(one(query.into_builder(&SQL_INFO).build().map_err(unwritten)?))
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.sql_for(&request).await?;
        info(request, &TYPE_INFO.schema(), query)
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        self.sql_for(&request).await?;
        Ok(one(query.into_builder(&TYPE_INFO).build().map_err(unwritten)?))
    }

    async fn do_put_statement_update(
        &self,
        _: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.sql_for(&request).await?;
        Err(nothing_is_written())
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.sql_for(&request).await?;
        Err(nothing_is_written())
    }

    async fn do_put_prepared_statement_update(
        &self,
        _: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.sql_for(&request).await?;
        Err(nothing_is_written())
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
