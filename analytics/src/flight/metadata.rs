//! What the server says of itself.

use std::sync::LazyLock;

use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{Nullable, Searchable, SqlInfo, SqlSupportedTransaction, XdbcDataType};

pub(super) const CATALOG: &str = "weir";
pub(super) const SCHEMA: &str = "public";
pub(super) const TABLE_TYPE: &str = "TABLE";

/// The version of Arrow's columnar format that rows are written by.
const FORMAT_VERSION: &str = "1.5";

pub(super) static SQL_INFO: LazyLock<SqlInfoData> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Weir");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, FORMAT_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.build().expect("the values are of their types")
});

/// The types that columns of tables are of: name, number of JDBC, size.
const TYPES: [(&str, XdbcDataType, Option<i32>); 7] = [
    ("bigint", XdbcDataType::XdbcBigint, Some(64)),
    ("boolean", XdbcDataType::XdbcBit, Some(1)),
    ("date", XdbcDataType::XdbcDate, Some(10)),
    ("double", XdbcDataType::XdbcDouble, Some(53)),
    ("integer", XdbcDataType::XdbcInteger, Some(32)),
    ("timestamp", XdbcDataType::XdbcTimestamp, Some(26)),
    ("varchar", XdbcDataType::XdbcVarchar, None),
];

pub(super) static TYPE_INFO: LazyLock<XdbcTypeInfoData> = LazyLock::new(|| {
    let mut info = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, column_size) in TYPES {
        let quote = matches!(
            data_type,
            XdbcDataType::XdbcDate | XdbcDataType::XdbcTimestamp | XdbcDataType::XdbcVarchar
        );
        info.append(XdbcTypeInfo {
            type_name: name.into(),
            data_type,
            column_size,
            literal_prefix: quote.then(|| "'".into()),
            literal_suffix: quote.then(|| "'".into()),
            create_params: None,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: data_type == XdbcDataType::XdbcVarchar,
            searchable: Searchable::Full,
            unsigned_attribute: Some(false),
            fixed_prec_scale: false,
            auto_increment: Some(false),
            local_type_name: Some(name.into()),
            minimum_scale: None,
            maximum_scale: None,
            sql_data_type: data_type,
            datetime_subcode: None,
            num_prec_radix: Some(2),
            interval_precision: None,
        });
    }
    info.build().expect("each has all of its columns")
});
