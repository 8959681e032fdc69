use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// A table that cannot be read, and why.
#[derive(Debug)]
pub(super) struct Refused {
    schema: SchemaRef,
    why: String,
}

impl Refused {
    pub(super) fn new(schema: SchemaRef, why: String) -> Self {
        Self { schema, why }
    }
}

#[async_trait]
impl TableProvider for Refused {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("{}", self.why)
    }
}
