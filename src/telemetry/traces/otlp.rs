//! Spans as OTLP spells them.

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::{Attribute, Ended, Kind, SpanContext};
use crate::telemetry::Settings;

/// The process, as every span of it is marked.
pub(super) fn resource(settings: &Settings, role: &'static str) -> Resource {
    let or = |set: &str, otherwise: &dyn Fn() -> String| if set.is_empty() { otherwise() } else { set.to_owned() };
    let instance = || {
        let machine = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        format!("{}:{}", machine.trim(), std::process::id())
    };
    let text = |key: &str, value: String| pair(key, Value::StringValue(value));
    let mut attributes = vec![
        text("service.name", or(&settings.service_name, &|| format!("autoreply-{role}"))),
        text("service.instance.id", or(&settings.service_instance, &instance)),
        text("service.version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    if !settings.deployment_environment.is_empty() {
        attributes.push(text("deployment.environment.name", settings.deployment_environment.clone()));
    }
    Resource { attributes, ..Resource::default() }
}

/// What is sent for these spans.
pub(super) fn request(resource: &Resource, spans: &[Ended]) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "autoreply".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = spans.iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let resource_spans = ResourceSpans { resource: Some(resource.clone()), scope_spans, schema_url: String::new() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

fn span(ended: &Ended) -> Span {
    let kind = match ended.kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    };
    let mut attributes: Vec<KeyValue> = ended.attributes.iter().map(|(key, value)| pair(key, spelled(value))).collect();
    let status = ended.failed.map(|word| {
        attributes.push(pair("error.type", Value::StringValue(word.to_owned())));
        Status { message: word.to_owned(), code: StatusCode::Error.into() }
    });
    Span {
        trace_id: trace_id(ended.context),
        span_id: span_id(ended.context),
        parent_span_id: ended.parent.map(span_id).unwrap_or_default(),
        flags: u32::from(ended.context.sampled),
        name: ended.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: nanos(ended.begin),
        end_time_unix_nano: nanos(ended.end),
        attributes,
        links: ended.links.iter().map(|to| link(*to)).collect(),
        status,
        ..Span::default()
    }
}

fn link(to: SpanContext) -> Link {
    Link { trace_id: trace_id(to), span_id: span_id(to), flags: u32::from(to.sampled), ..Link::default() }
}

fn trace_id(context: SpanContext) -> Vec<u8> {
    context.trace.to_be_bytes().to_vec()
}

fn span_id(context: SpanContext) -> Vec<u8> {
    context.span.to_be_bytes().to_vec()
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or(0)
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn spelled(attribute: &Attribute) -> Value {
    match attribute {
        Attribute::Word(word) => Value::StringValue((*word).to_owned()),
        Attribute::Words(words) => {
            let one = |word: &&str| AnyValue { value: Some(Value::StringValue((*word).to_owned())) };
            Value::ArrayValue(ArrayValue { values: words.iter().map(one).collect() })
        }
        Attribute::Id(id) => Value::StringValue(id.to_string()),
        Attribute::Name(name) => Value::StringValue(name.clone()),
        Attribute::Count(count) => Value::IntValue(*count),
        Attribute::Flag(flag) => Value::BoolValue(*flag),
    }
}
