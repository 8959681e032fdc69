//! One event of each kind, as it would be written, for tests and the golden samples.

use super::{Event, EventId, Kind, Outcome, Producer, Text, Timestamp};

/// A plausible event of the kind. Samples are numbered from 100 in the order of the
/// kinds, a microsecond apart.
pub(super) fn sample(kind: Kind) -> Event {
    let number = Kind::ALL.iter().position(|other| *other == kind).unwrap() as i64 + 100;
    let producer = Producer::new("edge-1").unwrap();
    let id = EventId { producer, boot: 3, sequence: number };
    let time = Timestamp::from_micros(1_769_903_999_000_000 + number);
    let mut event = Event::new(id, time, kind, Outcome::Success);
    event.sequence_before = Some(number - 1);
    event.node = text("edge-1");
    event.zone = text("dmz");
    event.config_hash = text("9f86d081884c7d65");
    event.config_revision = Some(17);
    fill(&mut event);
    event
}

fn text(text: &'static str) -> Option<Text> {
    Some(text.into())
}

fn fill(event: &mut Event) {
    match event.kind {
        Kind::Request | Kind::Refusal => request(event),
        Kind::Route | Kind::Step => mediation(event),
        Kind::Accept | Kind::Delivery | Kind::DeadLetter => delivery(event),
        Kind::Queue => queue(event),
        Kind::Authentication | Kind::Token => identity(event),
        Kind::Admin | Kind::Configuration => administration(event),
        Kind::Finding | Kind::Alert | Kind::Decision => detection(event),
        _ => upkeep(event),
    }
}

/// A request with the forty fields that a gateway usually knows.
fn request(event: &mut Event) {
    event.service_name = text("weir-gateway");
    event.correlation_id = text("0b1e6a52");
    event.trace_id = text("4bf92f3577b34da6a3ce929d0e0e4736");
    event.span_id = text("00f067aa0ba902b7");
    event.http_request_method = text("GET");
    event.http_route = text("/orders/v1/orders/{id}");
    event.http_response_status_code = Some(200);
    event.http_response_body_size = Some(1024);
    event.url_scheme = text("https");
    event.url_path = text("/orders/v1/orders/7");
    event.server_address = text("api.example.com");
    event.client_address = text("203.0.113.7");
    event.client_port = Some(50_312);
    event.user_agent_original = text("curl/8.5 \"quoted\" \\ \u{1f600}");
    event.network_protocol_version = text("2");
    event.tls_protocol_version = text("1.3");
    event.tls_cipher = text("TLS_AES_128_GCM_SHA256");
    event.api_name = text("orders");
    event.api_version = text("v1");
    event.api_resource = text("/orders/{id}");
    event.app_id = text("app-17");
    event.subscription_tier = text("gold");
    event.auth_method = text("jwt");
    event.auth_outcome = text("allowed");
    event.auth_subject = text("u-4711");
    event.throttle_limit = Some(1000);
    event.throttle_remaining = Some(941);
    event.upstream_name = text("orders");
    event.upstream_address = text("10.0.0.5:8080");
    event.upstream_attempts = Some(1);
    event.upstream_status_code = Some(200);
    event.latency_total_us = Some(4_210);
    event.latency_auth_us = Some(21);
    event.latency_ttfb_us = Some(3_900);
    event.latency_upstream_us = Some(4_050);
}

fn mediation(event: &mut Event) {
    event.correlation_id = text("0b1e6a52");
    event.span_id = text("53995c3f42cd8ad8");
    event.parent_span_id = text("00f067aa0ba902b7");
    event.mediation_route = text("order-to-erp");
    event.mediation_step_id = text("to-xml");
    if event.kind == Kind::Route {
        event.latency_total_us = Some(12_800);
        return;
    }
    event.outcome = Outcome::Fault;
    event.mediation_step_kind = text("transform");
    event.mediation_step_duration_us = Some(310);
    event.fault_code = text("transform_failed");
    event.fault_message = text("no field \"total\" in the message");
    event.fault_step = text("try/to-xml");
    event.fault_file = text("routes/order-to-erp.yaml");
    event.fault_line = Some(14);
    event.payload_request = text("{\"order\":7}\n");
    event.payload_request_content_type = text("application/json");
    event.payload_truncated = Some(false);
}

fn delivery(event: &mut Event) {
    event.correlation_id = text("0b1e6a52");
    event.messaging_message_id = text("edge-1-3-98");
    event.delivery_queue = text("erp");
    event.delivery_key = text("customer-12");
    event.delivery_sequence = Some(5);
    event.delivery_accepted_time = Some(Timestamp::from_micros(1_769_903_940_000_000));
    if event.kind == Kind::Accept {
        return;
    }
    event.delivery_target = text("erp-orders");
    event.delivery_attempt = Some(2);
    event.delivery_owner_epoch = Some(11);
    event.outcome = Outcome::UpstreamTimeout;
    event.error_type = text("upstream_timeout");
    event.delivery_outcome = text("dead");
    if event.kind == Kind::Delivery {
        event.delivery_outcome = text("retry");
        event.delivery_next_attempt_time = Some(Timestamp::from_micros(1_769_904_003_500_000));
    }
}

fn queue(event: &mut Event) {
    event.delivery_queue = text("erp");
    event.delivery_partition = Some(3);
    event.delivery_owner_epoch = Some(11);
    event.delivery_logged = Some(17_004);
    event.delivery_waiting = Some(2);
}

fn identity(event: &mut Event) {
    event.client_address = text("203.0.113.7");
    event.app_id = text("app-17");
    event.auth_subject = text("u-4711");
    if event.kind == Kind::Token {
        event.token_action = text("refresh");
        event.token_grant = text("refresh_token");
        event.token_family = text("5e884898da280471");
        event.auth_token_id = text("6b86b273ff34fce1");
        return;
    }
    event.outcome = Outcome::Denied;
    event.auth_method = text("password");
    event.auth_outcome = text("denied");
    event.auth_reason = text("password_wrong");
    event.auth_store = text("corporate-ad");
}

fn administration(event: &mut Event) {
    event.admin_change_set = text("cs-204");
    if event.kind == Kind::Configuration {
        event.outcome = Outcome::Refused;
        event.fault_code = text("unknown_key");
        event.fault_file = text("apis/orders.yaml");
        event.fault_line = Some(9);
        return;
    }
    event.admin_action = text("update");
    event.admin_entity_kind = text("api");
    event.admin_entity_id = text("orders-v1");
    event.admin_entity_version = Some(8);
    event.admin_actor = text("alice");
    event.admin_chain_before = text("ab12");
    event.admin_chain_hash = text("cd34");
}

fn detection(event: &mut Event) {
    event.detection_name = text("credential_stuffing");
    event.detection_severity = text("high");
    event.detection_subject_kind = text("address");
    event.detection_subject = text("203.0.113.7");
    event.detection_window_start_time = Some(Timestamp::from_micros(1_769_903_940_000_000));
    event.detection_window_end_time = Some(Timestamp::from_micros(1_769_904_000_000_000));
    event.detection_value = Some(240);
    event.detection_threshold = Some(50);
    if event.kind == Kind::Alert {
        event.alert_id = text("al-31");
        event.alert_state = text("notified");
        event.alert_channel = text("email");
        event.alert_recipient = text("soc@example.com");
        event.messaging_message_id = text("<al-31.1@weir.example.com>");
    }
    if event.kind == Kind::Decision {
        event.decision_id = text("de-5");
        event.decision_action = text("block");
        event.decision_state = text("made");
        event.decision_subject_kind = text("address");
        event.decision_subject = text("203.0.113.7");
        event.decision_expires_time = Some(Timestamp::from_micros(1_769_907_600_000_000));
    }
}

fn upkeep(event: &mut Event) {
    match event.kind {
        Kind::Error => {
            event.outcome = Outcome::InternalError;
            event.fault_code = text("disk_full");
            event.fault_message = text("the spool cannot grow");
        }
        Kind::Upstream => {
            event.outcome = Outcome::Unavailable;
            event.upstream_name = text("orders");
            event.upstream_address = text("10.0.0.5:8080");
            event.upstream_state = text("suspended");
        }
        Kind::External => {
            event.external_id = text("A-1");
            event.external_source = text("urn:shop");
            event.external_type = text("com.example.order.created");
            event.external_data = text("{\"order\":7}");
        }
        Kind::Loss => event.loss_events = Some(12),
        Kind::ReplayEnded => event.replay_id = text("re-2"),
        _ => event.source_partition = Some(4),
    }
    if event.kind == Kind::SourceRetired {
        event.source_producer = text("edge-2");
        event.source_boot = Some(1);
        event.source_watermark_time = Some(Timestamp::from_micros(1_769_903_900_000_000));
    }
}
