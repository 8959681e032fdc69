//! The objects of an OpenAPI document: the keys of each, and the forms of their values
//! (OpenAPI 3.0.4, section 4.7; OpenAPI 3.1.1, section 4.8; Swagger 2.0, "Schema").
//!
//! Of schemas only what leads to other schemas is here: their other keywords are of
//! JSON Schema, and no request is checked against them.

use super::Edition;

/// The form of a value.
pub(super) enum Form {
    Text,
    Flag,
    Number,
    Any,
    /// One of these texts.
    Word(&'static [&'static str]),
    List(&'static Form),
    /// A mapping whose keys the author chooses.
    Map(&'static Form),
    Of(&'static Object),
    /// The object, or a mapping with `$ref` that leads to one.
    OrRef(&'static Object),
    /// A schema, or a flag that stands for one.
    Schema,
    /// The name of a schema's type, or several.
    Types,
    /// A mapping of paths.
    Paths(&'static Object),
    /// A mapping of statuses.
    Responses(&'static Object),
}

/// The keys of an object, when they may be there, and the forms of their values.
pub(super) struct Object {
    pub(super) keys: &'static [(&'static str, When, Form)],
    /// Whether it may have other keys too.
    pub(super) is_open: bool,
}

/// In which documents a key is there.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum When {
    May,
    Must,
    /// It has to be in OpenAPI 3.0, and may be in 3.1.
    MustIn30,
    /// It may be, in OpenAPI 3.1.
    In31,
}

impl When {
    pub(super) fn is_known(self, edition: Edition) -> bool {
        self != When::In31 || edition == Edition::V31
    }

    pub(super) fn is_needed(self, edition: Edition) -> bool {
        self == When::Must || (self == When::MustIn30 && edition == Edition::V30)
    }
}

use Form::*;
use When::*;

type Keys = &'static [(&'static str, When, Form)];

const fn closed(keys: Keys) -> Object {
    Object { keys, is_open: false }
}

const fn open(keys: Keys) -> Object {
    Object { keys, is_open: true }
}

/// A document of OpenAPI 3.0 or 3.1.
pub(super) static DOCUMENT: Object = closed(&[
    ("openapi", Must, Text),
    ("info", Must, Of(&INFO)),
    ("jsonSchemaDialect", In31, Text),
    ("servers", May, List(&Of(&SERVER))),
    ("paths", Must, Paths(&PATH_ITEM)),
    ("webhooks", In31, Map(&OrRef(&PATH_ITEM))),
    ("components", May, Of(&COMPONENTS)),
    ("security", May, List(&Map(&List(&Text)))),
    ("tags", May, List(&Of(&TAG))),
    ("externalDocs", May, Of(&EXTERNAL_DOCS)),
]);

/// A document of Swagger 2.0.
pub(super) static SWAGGER: Object = closed(&[
    ("swagger", Must, Text),
    ("info", Must, Of(&INFO)),
    ("host", May, Text),
    ("basePath", May, Text),
    ("schemes", May, List(&Word(&SCHEMES))),
    ("consumes", May, List(&Text)),
    ("produces", May, List(&Text)),
    ("paths", Must, Paths(&SWAGGER_PATH_ITEM)),
    ("definitions", May, Map(&Schema)),
    ("parameters", May, Map(&Of(&SWAGGER_PARAMETER))),
    ("responses", May, Map(&Of(&SWAGGER_RESPONSE))),
    ("securityDefinitions", May, Map(&Of(&SWAGGER_SECURITY_SCHEME))),
    ("security", May, List(&Map(&List(&Text)))),
    ("tags", May, List(&Of(&TAG))),
    ("externalDocs", May, Of(&EXTERNAL_DOCS)),
]);

const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

static INFO: Object = closed(&[
    ("title", Must, Text),
    ("summary", In31, Text),
    ("description", May, Text),
    ("termsOfService", May, Text),
    ("contact", May, Of(&CONTACT)),
    ("license", May, Of(&LICENSE)),
    ("version", Must, Text),
]);

static CONTACT: Object = closed(&[("name", May, Text), ("url", May, Text), ("email", May, Text)]);

static LICENSE: Object =
    closed(&[("name", Must, Text), ("identifier", In31, Text), ("url", May, Text)]);

static SERVER: Object = closed(&[
    ("url", Must, Text),
    ("description", May, Text),
    ("variables", May, Map(&Of(&SERVER_VARIABLE))),
]);

static SERVER_VARIABLE: Object =
    closed(&[("enum", May, List(&Text)), ("default", Must, Text), ("description", May, Text)]);

static TAG: Object = closed(&[
    ("name", Must, Text),
    ("description", May, Text),
    ("externalDocs", May, Of(&EXTERNAL_DOCS)),
]);

static EXTERNAL_DOCS: Object = closed(&[("description", May, Text), ("url", Must, Text)]);

static COMPONENTS: Object = closed(&[
    ("schemas", May, Map(&Schema)),
    ("responses", May, Map(&OrRef(&RESPONSE))),
    ("parameters", May, Map(&OrRef(&PARAMETER))),
    ("examples", May, Map(&OrRef(&EXAMPLE))),
    ("requestBodies", May, Map(&OrRef(&REQUEST_BODY))),
    ("headers", May, Map(&OrRef(&HEADER))),
    ("securitySchemes", May, Map(&OrRef(&SECURITY_SCHEME))),
    ("links", May, Map(&OrRef(&LINK))),
    ("callbacks", May, Map(&OrRef(&CALLBACK))),
    ("pathItems", In31, Map(&OrRef(&PATH_ITEM))),
]);

static PATH_ITEM: Object = closed(&[
    ("$ref", May, Text),
    ("summary", May, Text),
    ("description", May, Text),
    ("get", May, Of(&OPERATION)),
    ("head", May, Of(&OPERATION)),
    ("post", May, Of(&OPERATION)),
    ("put", May, Of(&OPERATION)),
    ("patch", May, Of(&OPERATION)),
    ("delete", May, Of(&OPERATION)),
    ("options", May, Of(&OPERATION)),
    ("trace", May, Of(&OPERATION)),
    ("servers", May, List(&Of(&SERVER))),
    ("parameters", May, List(&OrRef(&PARAMETER))),
]);

static SWAGGER_PATH_ITEM: Object = closed(&[
    ("$ref", May, Text),
    ("get", May, Of(&SWAGGER_OPERATION)),
    ("head", May, Of(&SWAGGER_OPERATION)),
    ("post", May, Of(&SWAGGER_OPERATION)),
    ("put", May, Of(&SWAGGER_OPERATION)),
    ("patch", May, Of(&SWAGGER_OPERATION)),
    ("delete", May, Of(&SWAGGER_OPERATION)),
    ("options", May, Of(&SWAGGER_OPERATION)),
    ("parameters", May, List(&OrRef(&SWAGGER_PARAMETER))),
]);

static OPERATION: Object = closed(&[
    ("tags", May, List(&Text)),
    ("summary", May, Text),
    ("description", May, Text),
    ("externalDocs", May, Of(&EXTERNAL_DOCS)),
    ("operationId", May, Text),
    ("parameters", May, List(&OrRef(&PARAMETER))),
    ("requestBody", May, OrRef(&REQUEST_BODY)),
    ("responses", MustIn30, Responses(&RESPONSE)),
    ("callbacks", May, Map(&OrRef(&CALLBACK))),
    ("deprecated", May, Flag),
    ("security", May, List(&Map(&List(&Text)))),
    ("servers", May, List(&Of(&SERVER))),
]);

static SWAGGER_OPERATION: Object = closed(&[
    ("tags", May, List(&Text)),
    ("summary", May, Text),
    ("description", May, Text),
    ("externalDocs", May, Of(&EXTERNAL_DOCS)),
    ("operationId", May, Text),
    ("consumes", May, List(&Text)),
    ("produces", May, List(&Text)),
    ("parameters", May, List(&OrRef(&SWAGGER_PARAMETER))),
    ("responses", Must, Responses(&SWAGGER_RESPONSE)),
    ("schemes", May, List(&Word(&SCHEMES))),
    ("deprecated", May, Flag),
    ("security", May, List(&Map(&List(&Text)))),
]);

static PARAMETER: Object = closed(&[
    ("name", Must, Text),
    ("in", Must, Word(&["query", "header", "path", "cookie"])),
    ("description", May, Text),
    ("required", May, Flag),
    ("deprecated", May, Flag),
    ("allowEmptyValue", May, Flag),
    ("style", May, Text),
    ("explode", May, Flag),
    ("allowReserved", May, Flag),
    ("schema", May, Schema),
    ("example", May, Any),
    ("examples", May, Map(&OrRef(&EXAMPLE))),
    ("content", May, Map(&Of(&MEDIA_TYPE))),
]);

/// Beside these it has the keywords of a schema, if it is none of a body.
static SWAGGER_PARAMETER: Object = open(&[
    ("name", Must, Text),
    ("in", Must, Word(&["query", "header", "path", "formData", "body"])),
    ("description", May, Text),
    ("required", May, Flag),
    ("schema", May, Schema),
    ("type", May, Word(&["string", "number", "integer", "boolean", "array", "file"])),
]);

static HEADER: Object = closed(&[
    ("description", May, Text),
    ("required", May, Flag),
    ("deprecated", May, Flag),
    ("allowEmptyValue", May, Flag),
    ("style", May, Text),
    ("explode", May, Flag),
    ("allowReserved", May, Flag),
    ("schema", May, Schema),
    ("example", May, Any),
    ("examples", May, Map(&OrRef(&EXAMPLE))),
    ("content", May, Map(&Of(&MEDIA_TYPE))),
]);

static REQUEST_BODY: Object = closed(&[
    ("description", May, Text),
    ("content", Must, Map(&Of(&MEDIA_TYPE))),
    ("required", May, Flag),
]);

static MEDIA_TYPE: Object = closed(&[
    ("schema", May, Schema),
    ("example", May, Any),
    ("examples", May, Map(&OrRef(&EXAMPLE))),
    ("encoding", May, Map(&Of(&ENCODING))),
]);

static ENCODING: Object = closed(&[
    ("contentType", May, Text),
    ("headers", May, Map(&OrRef(&HEADER))),
    ("style", May, Text),
    ("explode", May, Flag),
    ("allowReserved", May, Flag),
]);

static RESPONSE: Object = closed(&[
    ("description", Must, Text),
    ("headers", May, Map(&OrRef(&HEADER))),
    ("content", May, Map(&Of(&MEDIA_TYPE))),
    ("links", May, Map(&OrRef(&LINK))),
]);

static SWAGGER_RESPONSE: Object = closed(&[
    ("description", Must, Text),
    ("schema", May, Schema),
    ("headers", May, Map(&Any)),
    ("examples", May, Map(&Any)),
]);

static EXAMPLE: Object = closed(&[
    ("summary", May, Text),
    ("description", May, Text),
    ("value", May, Any),
    ("externalValue", May, Text),
]);

static LINK: Object = closed(&[
    ("operationRef", May, Text),
    ("operationId", May, Text),
    ("parameters", May, Map(&Any)),
    ("requestBody", May, Any),
    ("description", May, Text),
    ("server", May, Of(&SERVER)),
]);

/// Its keys are expressions, and their values path items.
static CALLBACK: Object = open(&[]);

static SECURITY_SCHEME: Object = closed(&[
    ("type", Must, Word(&["apiKey", "http", "mutualTLS", "oauth2", "openIdConnect"])),
    ("description", May, Text),
    ("name", May, Text),
    ("in", May, Word(&["query", "header", "cookie"])),
    ("scheme", May, Text),
    ("bearerFormat", May, Text),
    ("flows", May, Of(&FLOWS)),
    ("openIdConnectUrl", May, Text),
]);

static FLOWS: Object = closed(&[
    ("implicit", May, Of(&FLOW)),
    ("password", May, Of(&FLOW)),
    ("clientCredentials", May, Of(&FLOW)),
    ("authorizationCode", May, Of(&FLOW)),
]);

static FLOW: Object = closed(&[
    ("authorizationUrl", May, Text),
    ("tokenUrl", May, Text),
    ("refreshUrl", May, Text),
    ("scopes", Must, Map(&Text)),
]);

static SWAGGER_SECURITY_SCHEME: Object = closed(&[
    ("type", Must, Word(&["basic", "apiKey", "oauth2"])),
    ("description", May, Text),
    ("name", May, Text),
    ("in", May, Word(&["query", "header"])),
    ("flow", May, Word(&["implicit", "password", "application", "accessCode"])),
    ("authorizationUrl", May, Text),
    ("tokenUrl", May, Text),
    ("scopes", May, Map(&Text)),
]);

/// A schema, as far as it leads to others.
pub(super) static SCHEMA: Object = open(&[
    ("$ref", May, Text),
    ("title", May, Text),
    ("description", May, Text),
    ("type", May, Types),
    ("format", May, Text),
    ("properties", May, Map(&Schema)),
    ("required", May, List(&Text)),
    ("additionalProperties", May, Schema),
    ("items", May, Schema),
    ("allOf", May, List(&Schema)),
    ("anyOf", May, List(&Schema)),
    ("oneOf", May, List(&Schema)),
    ("not", May, Schema),
    ("enum", May, List(&Any)),
    ("minLength", May, Number),
    ("maxLength", May, Number),
    ("minItems", May, Number),
    ("maxItems", May, Number),
    ("minimum", May, Number),
    ("maximum", May, Number),
    ("pattern", May, Text),
]);
