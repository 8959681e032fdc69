//! The table of fields.
//!
//! To add a field: write its row at the end of its group, raise [`SCHEMA_VERSION`] if
//! the last version was released, and run `WEIR_REGENERATE=1 cargo test -p ingest`.
//! Nothing else lists fields. A row is never removed, renamed or given another type.
//!
//! Names with `otel` are attributes of the OpenTelemetry semantic conventions, with
//! underscores for dots; `personal` marks what can tell of a person.

use super::table::{Field, Group, Personal, schema};
use super::value::{Value, optional};
use super::{EventId, Kind, Outcome, Producer, Text, Timestamp};

/// The version of the schema that this program writes.
pub const SCHEMA_VERSION: i64 = 1;

impl Event {
    /// An event of the present schema version with no optional field.
    pub fn new(id: EventId, event_time: Timestamp, kind: Kind, outcome: Outcome) -> Self {
        Self::of(event_time, id.producer, id.boot, id.sequence, SCHEMA_VERSION, kind, outcome)
    }

    /// Makes another event of it, with no optional field, in the same memory: an event
    /// is 3 KB.
    pub fn renew(&mut self, id: EventId, event_time: Timestamp, kind: Kind, outcome: Outcome) {
        self.clear();
        let EventId { producer, boot, sequence } = id;
        (self.producer, self.boot, self.sequence) = (producer, boot, sequence);
        (self.event_time, self.schema_version) = (event_time, SCHEMA_VERSION);
        (self.kind, self.outcome) = (kind, outcome);
    }

    /// The identity.
    pub fn id(&self) -> EventId {
        let producer = self.producer.clone();
        EventId { producer, boot: self.boot, sequence: self.sequence }
    }
}

schema! {
    mandatory "Envelope" "On every event, and the only fields that are." {
        /// When it happened, by the clock of the producer; for what lasts, when it ended.
        event_time: Timestamp since 1;
        /// Name of the process that wrote the event.
        producer: Producer since 1;
        /// Which start of the producer it was; grows with each.
        boot: i64 since 1;
        /// Number of the event within the boot; grows with each event.
        sequence: i64 since 1;
        /// Version of this table that the event was written by.
        schema_version: i64 since 1;
        /// What the event tells of.
        kind: Kind since 1;
        /// How it ended.
        outcome: Outcome since 1;
    }

    optional "Origin" "Where the event comes from, and what was in force there." {
        /// Sequence of the event before this one of the same producer, boot and partition;
        /// absent on the first, so that a gap shows.
        sequence_before: i64 since 1;
        /// Node that the producer runs on; stamped by the collector for a DMZ node.
        node: Text since 1;
        /// Network zone of the node, such as dmz or lan.
        zone: Text since 1;
        /// Hash of the configuration in force, as hexadecimal digits.
        config_hash: Text since 1;
        /// Revision of the registry that the hash is of; the history of the registry has it.
        config_revision: i64 since 1;
        /// Replay that the event belongs to; absent on live events.
        replay_id: Text since 1;
        /// Role of the process, such as weir-gateway, or the service of an external event.
        service_name: Text since 1 otel "service.name";
        /// Version of the program.
        service_version: Text since 1 otel "service.version";
    }

    optional "Correlation" "What joins the events of one journey." {
        /// Id of the whole journey, from the client's request to the last delivery.
        correlation_id: Text since 1 personal Content;
        /// W3C trace id, 32 hexadecimal digits.
        trace_id: Text since 1;
        /// W3C id of the span that the event tells of, 16 hexadecimal digits.
        span_id: Text since 1;
        /// W3C id of the span around it, 16 hexadecimal digits.
        parent_span_id: Text since 1;
    }

    optional "Request" "The request as the client sent it, and the answer that it got." {
        /// Method, in upper case.
        http_request_method: Text since 1 otel "http.request.method" personal Content;
        /// Path template that matched, with the API's context.
        http_route: Text since 1 otel "http.route";
        /// Status code of the answer to the client.
        http_response_status_code: i64 since 1 otel "http.response.status_code";
        /// Size of the request's body as received, in bytes.
        http_request_body_size: i64 since 1 otel "http.request.body.size";
        /// Size of the answer's body as sent, in bytes.
        http_response_body_size: i64 since 1 otel "http.response.body.size";
        /// Referer header without user and fragment, masked by rule as url_query is.
        http_request_header_referer: Text since 1 otel "http.request.header.referer" personal Content;
        /// Scheme of the request, http or https.
        url_scheme: Text since 1 otel "url.scheme";
        /// Path of the request.
        url_path: Text since 1 otel "url.path" personal Content;
        /// Query of the request without the question mark, masked by rule.
        url_query: Text since 1 otel "url.query" personal Content;
        /// Host that the client asked for.
        server_address: Text since 1 otel "server.address" personal Content;
        /// Address of the client, behind trusted proxies the one that they name.
        client_address: Text since 1 otel "client.address" personal Address;
        /// Port of the client.
        client_port: i64 since 1 otel "client.port";
        /// Address at the other end of the connection, which may be a proxy.
        network_peer_address: Text since 1 otel "network.peer.address" personal Address;
        /// User-Agent header.
        user_agent_original: Text since 1 otel "user_agent.original" personal Content;
        /// Protocol spoken with the client: http, websocket, sse or grpc.
        network_protocol_name: Text since 1 otel "network.protocol.name";
        /// Version of HTTP: 1.0, 1.1 or 2.
        network_protocol_version: Text since 1 otel "network.protocol.version";
        /// Version of TLS, 1.2 or 1.3; absent without TLS.
        tls_protocol_version: Text since 1 otel "tls.protocol.version";
        /// Cipher suite of the connection, by its IANA name.
        tls_cipher: Text since 1 otel "tls.cipher";
        /// Distinguished name of the subject of the client's certificate.
        tls_client_subject: Text since 1 otel "tls.client.subject" personal Identifier;
        /// Stable code of what went wrong, the one in the answer to the client; absent on success.
        error_type: Text since 1 otel "error.type";
    }

    optional "API" "The API that was called." {
        /// Name of the API.
        api_name: Text since 1;
        /// Version of the API.
        api_version: Text since 1;
        /// Path under which the API is published.
        api_context: Text since 1;
        /// Path template of the resource within the API's document.
        api_resource: Text since 1;
        /// Operation id in the API's document.
        api_operation: Text since 1;
        /// API product through which the API was called.
        api_product: Text since 1;
    }

    optional "Application" "Who called, as a subscriber." {
        /// Id of the application.
        app_id: Text since 1;
        /// Name of the application.
        app_name: Text since 1;
        /// User who owns the application.
        app_owner: Text since 1 personal Identifier;
        /// Which keys it used: production or sandbox.
        app_environment: Text since 1;
        /// Id of the subscription of the application to the API.
        subscription_id: Text since 1;
        /// Tier of the subscription.
        subscription_tier: Text since 1;
    }

    optional "Authentication" "Who the caller was found to be, and why it was let in or not." {
        /// Method that decided: jwt, opaque, api_key, basic, mtls, password or none.
        auth_method: Text since 1;
        /// Verdict: allowed or denied.
        auth_outcome: Text since 1;
        /// Stable code of the reason, such as token_expired or scope_missing.
        auth_reason: Text since 1;
        /// User or client that was identified.
        auth_subject: Text since 1 personal Identifier;
        /// Scopes that were presented, separated by spaces.
        auth_scopes: Text since 1;
        /// Hash of the token's id; never the token.
        auth_token_id: Text since 1;
        /// User store that answered.
        auth_store: Text since 1;
        /// What was done with a token: issue, refresh, exchange, introspect or revoke.
        token_action: Text since 1;
        /// OAuth2 grant that asked for it.
        token_grant: Text since 1;
        /// Hash that all tokens of one chain of refreshes share.
        token_family: Text since 1;
    }

    optional "Throttling and protection" "Limits that were applied, and the rule that refused." {
        /// Level of the limit that was nearest: subscription, application, api, resource or user.
        throttle_level: Text since 1;
        /// Policy that the limit comes from.
        throttle_policy: Text since 1;
        /// The limit per window, in requests or, for a bandwidth policy, bytes.
        throttle_limit: i64 since 1;
        /// What was left of the limit after this request, in the same unit.
        throttle_remaining: i64 since 1;
        /// Time until the window begins anew, in microseconds.
        throttle_reset_us: i64 since 1;
        /// Protection or validation rule that refused the content.
        threat_rule: Text since 1;
        /// Place in the content that broke the rule, as a JSON Pointer, XPath or header name.
        threat_path: Text since 1;
        /// Offset of that place, in bytes.
        threat_offset: i64 since 1;
    }

    optional "Upstream" "The service that was called for the client." {
        /// Name of the upstream.
        upstream_name: Text since 1;
        /// Address and port of the instance that answered last.
        upstream_address: Text since 1;
        /// Attempts that were made; 1 without a retry, 0 if the cache answered.
        upstream_attempts: i64 since 1;
        /// Status code that the upstream answered last.
        upstream_status_code: i64 since 1;
        /// Which share of the traffic it was: main, canary or shadow.
        upstream_variant: Text since 1;
        /// What the response cache did: hit, miss, stale or bypass.
        upstream_cache: Text since 1;
        /// State that an instance came into: healthy, unhealthy, suspended or probing.
        upstream_state: Text since 1;
    }

    optional "Latency" "Where the time went; each part is absent where there was none." {
        /// From the first byte of the request to the last of the answer, in microseconds;
        /// for a route or a delivery, its whole duration.
        latency_total_us: i64 since 1;
        /// Authentication and authorization, in microseconds.
        latency_auth_us: i64 since 1;
        /// Throttling decision, in microseconds.
        latency_throttle_us: i64 since 1;
        /// Mediation of the request, in microseconds.
        latency_request_mediation_us: i64 since 1;
        /// Wait for a place or a connection, or in a queue, in microseconds.
        latency_queue_us: i64 since 1;
        /// Opening of a connection to the upstream with TLS, in microseconds; absent if one was reused.
        latency_connect_us: i64 since 1;
        /// From the request sent upstream to the first byte of its answer, in microseconds.
        latency_ttfb_us: i64 since 1;
        /// From the request sent upstream to the last byte of its answer, in microseconds.
        latency_upstream_us: i64 since 1;
        /// Mediation of the response, in microseconds.
        latency_response_mediation_us: i64 since 1;
    }

    optional "Mediation" "A run of a route, or one of its steps." {
        /// Name of the route.
        mediation_route: Text since 1;
        /// Id of the step within the route; on a failed run, the step that failed.
        mediation_step_id: Text since 1;
        /// Kind of the step, such as transform or call.
        mediation_step_kind: Text since 1;
        /// Duration of the step, in microseconds.
        mediation_step_duration_us: i64 since 1;
        /// Transport that the message came or went by, such as http, amqp or sftp.
        mediation_transport: Text since 1;
        /// Endpoint that was listened on or called.
        mediation_endpoint: Text since 1;
    }

    optional "Fault" "What failed, and where that is written." {
        /// Stable code of the fault.
        fault_code: Text since 1;
        /// What happened, for an operator; masked.
        fault_message: Text since 1 personal Content;
        /// Step that failed, with the steps around it, separated by slashes.
        fault_step: Text since 1;
        /// File of the configuration that the failing part is written in.
        fault_file: Text since 1;
        /// Line of that file, from 1.
        fault_line: i64 since 1;
    }

    optional "Messaging and delivery" "A message of a queue, and what became of it." {
        /// Queue or topic of an outside broker that the message came from or went to.
        messaging_destination_name: Text since 1 otel "messaging.destination.name";
        /// Id of the message: the one that the caller got with its 202, and an email's Message-ID.
        messaging_message_id: Text since 1 otel "messaging.message.id" personal Content;
        /// Weir's queue that holds the message.
        delivery_queue: Text since 1;
        /// Ordering key of the message.
        delivery_key: Text since 1 personal Content;
        /// Target that the message goes to.
        delivery_target: Text since 1;
        /// Number of the attempt, from 1.
        delivery_attempt: i64 since 1;
        /// What became of the message: scheduled, due, replayed, delivered, retry, held or dead.
        delivery_outcome: Text since 1;
        /// Number of the message among those of its key; -1 if it was given up before it was due.
        delivery_sequence: i64 since 1;
        /// Epoch of the owner that made the attempt; a later owner has a higher one.
        delivery_owner_epoch: i64 since 1;
        /// When the message was accepted.
        delivery_accepted_time: Timestamp since 1;
        /// When the next attempt is due, or a scheduled message; absent if there will be none.
        delivery_next_attempt_time: Timestamp since 1;
        /// Message id of the dead letter or old message that this one replays.
        delivery_replay_of: Text since 1;
        /// Partition of the queue that is told of.
        delivery_partition: i64 since 1;
        /// How many messages the log has ever taken in the partition.
        delivery_logged: i64 since 1;
        /// How many of them are neither delivered nor dead, by the offsets of the log.
        delivery_waiting: i64 since 1;
    }

    optional "Payload" "Bodies: off by default, on per API or route, masked before they are written." {
        /// Headers of the request, names in lower case, as a JSON object of texts.
        payload_request_headers: Text since 1 personal Content;
        /// Headers of the answer, as those of the request.
        payload_response_headers: Text since 1 personal Content;
        /// Body of the request; for a step, the message before it.
        payload_request: Text since 1 personal Content;
        /// Body of the answer; for a step, the message after it.
        payload_response: Text since 1 personal Content;
        /// Content type of the request's body.
        payload_request_content_type: Text since 1 personal Content;
        /// Content type of the answer's body.
        payload_response_content_type: Text since 1 personal Content;
        /// Whether a body, or headers, are less than there was.
        payload_truncated: bool since 1;
        /// Whether the request's body is.
        payload_request_truncated: bool since 1;
        /// Whether the answer's body is.
        payload_response_truncated: bool since 1;
    }

    optional "Administration" "An act on the configuration, a queue or a right, chained by hashes." {
        /// What was done, such as create, update, delete, approve or replay.
        admin_action: Text since 1;
        /// Kind of the entity that it was done to.
        admin_entity_kind: Text since 1;
        /// Id of that entity.
        admin_entity_id: Text since 1;
        /// Version of that entity after the act.
        admin_entity_version: i64 since 1;
        /// User or client who did it.
        admin_actor: Text since 1 personal Identifier;
        /// Id of the change set that the act was part of.
        admin_change_set: Text since 1;
        /// SHA-256 over the hash before and this event without this field, as hexadecimal digits.
        admin_chain_hash: Text since 1;
        /// Chain hash of the administrative event before; absent on the first.
        admin_chain_before: Text since 1;
    }

    optional "Detection" "What a detection found; its finding and its alert carry the same fields." {
        /// Name of the detection.
        detection_name: Text since 1;
        /// Severity: info, low, medium, high or critical.
        detection_severity: Text since 1;
        /// What the finding is about: address, application, user, api, route, queue, node.
        detection_subject_kind: Text since 1;
        /// The one that it is about.
        detection_subject: Text since 1 personal Identifier;
        /// Start of the window that it looked at, inclusive.
        detection_window_start_time: Timestamp since 1;
        /// End of the window that it looked at, exclusive.
        detection_window_end_time: Timestamp since 1;
        /// Value that was measured, in the unit of the detection.
        detection_value: i64 since 1;
        /// Bound that the value passed, in the same unit.
        detection_threshold: i64 since 1;
        /// SQL text that shows the events behind the finding.
        detection_evidence: Text since 1 personal Identifier;
    }

    optional "Alert" "An alert and the notices of it." {
        /// Id of the alert, the same from its first finding to its end.
        alert_id: Text since 1;
        /// State that it came into: fired, notified, escalated, acknowledged, suppressed or resolved.
        alert_state: Text since 1;
        /// Channel of a notice: email, file or webhook.
        alert_channel: Text since 1;
        /// Who the notice went to.
        alert_recipient: Text since 1 personal Identifier;
    }

    optional "Decision" "A decision that gateways enforce; on a request, the one that stopped it, or would have." {
        /// Id of the decision.
        decision_id: Text since 1;
        /// What is enforced: block, slow, revoke or quota.
        decision_action: Text since 1;
        /// What became of it: made, prolonged, held_back or lifted; on a request, in_force or dry_run.
        decision_state: Text since 1;
        /// What it is against: address, application, user, api or token.
        decision_subject_kind: Text since 1;
        /// The one that it is against.
        decision_subject: Text since 1 personal Identifier;
        /// When it ends by itself.
        decision_expires_time: Timestamp since 1;
    }

    optional "Source" "Records that move the watermark. A source is a producer in a partition." {
        /// Producer that the record speaks of; absent if it is the one that wrote it.
        source_producer: Text since 1;
        /// Boot of that producer.
        source_boot: i64 since 1;
        /// Partition that the record speaks of, and lies in.
        source_partition: i64 since 1;
        /// Watermark from which the source counts, or at which it stopped.
        source_watermark_time: Timestamp since 1;
    }

    optional "External" "An event of another system." {
        /// CloudEvents id, or what the collector gave in its place.
        external_id: Text since 1 personal Content;
        /// CloudEvents source, or the service that an OTLP log record is of.
        external_source: Text since 1 personal Content;
        /// CloudEvents type, or the event name, else the severity, of an OTLP log record.
        external_type: Text since 1 personal Content;
        /// The data as JSON text.
        external_data: Text since 1 personal Content;
        /// CloudEvents subject.
        external_subject: Text since 1 personal Content;
        /// When it happened by the clock of the other system.
        external_time: Timestamp since 1;
        /// CloudEvents attributes that have no field, as a JSON object.
        external_attributes: Text since 1 personal Content;
    }

    optional "Loss" "What is missing, and known to be." {
        /// Events that the producer dropped since it last said so.
        loss_events: i64 since 1;
    }
}
