//! Errors over HTTP: the status code for a code of gRPC, and the JSON of `google.rpc.Status` with its details.

use std::{collections::BTreeMap, fmt::Write as _};

use http::StatusCode;
use prost::Message as _;
use tonic_types::pb;

use crate::{refusal::DOMAIN, wire::json::put_string};

/// The start of the type URLs of details.
const TYPES: &str = "type.googleapis.com/google.rpc.";

/// The error of a call, as HTTP expresses it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HttpError {
    pub(crate) status: StatusCode,
    /// The body, as JSON.
    pub(crate) body: String,
    /// The name that the requested one has moved to.
    pub(crate) moved_to: Option<String>,
    /// The whole seconds after which an attempt can succeed, if a later one can.
    pub(crate) retry_after: Option<i64>,
}

impl HttpError {
    /// Returns the error for a status of gRPC. `details` are its encoded details, a `google.rpc.Status`. The body
    /// leaves out the id of the call, so that it depends on nothing but the request and the content.
    pub(crate) fn new(code: i32, message: &str, details: &[u8]) -> HttpError {
        let details = pb::Status::decode(details).unwrap_or_default().details;
        let mut error =
            HttpError { status: status(code), body: String::new(), moved_to: None, retry_after: None };
        let mut written = String::new();
        for detail in &details {
            let Some(kind) = detail.type_url.strip_prefix(TYPES) else { continue };
            let Some(fields) = error.describe(kind, &detail.value) else { continue };
            if !written.is_empty() {
                written.push(',');
            }
            let _ = write!(written, "{{\"@type\":\"{}\"{fields}}}", detail.type_url);
        }
        error.body.push_str("{\"code\":");
        let _ = write!(error.body, "{code},\"message\":");
        put_string(&mut error.body, message);
        if !written.is_empty() {
            let _ = write!(error.body, ",\"details\":[{written}]");
        }
        error.body.push_str("}\n");
        error
    }

    /// Returns the fields of a detail as JSON, and takes over what the headers state.
    fn describe(&mut self, kind: &str, value: &[u8]) -> Option<String> {
        let mut out = String::new();
        match kind {
            "ErrorInfo" => {
                let info = pb::ErrorInfo::decode(value).ok()?;
                let metadata: BTreeMap<_, _> = info.metadata.iter().collect();
                if info.domain == DOMAIN && self.status == StatusCode::NOT_FOUND {
                    self.status = match (&info.reason[..], info.metadata.get("moved_to")) {
                        (_, Some(target)) => {
                            self.moved_to = Some(target.clone());
                            StatusCode::PERMANENT_REDIRECT
                        }
                        ("ARTICLE_GONE" | "ARTICLE_MOVED" | "NAME_GONE", None) => StatusCode::GONE,
                        _ => StatusCode::NOT_FOUND,
                    };
                }
                put_text(&mut out, "reason", &info.reason);
                put_text(&mut out, "domain", &info.domain);
                if !metadata.is_empty() {
                    out.push_str(",\"metadata\":");
                    let mut separator = '{';
                    for (key, value) in metadata {
                        out.push(std::mem::replace(&mut separator, ','));
                        put_string(&mut out, key);
                        out.push(':');
                        put_string(&mut out, value);
                    }
                    out.push('}');
                }
            }
            "BadRequest" => {
                let violations = pb::BadRequest::decode(value).ok()?.field_violations;
                out.push_str(",\"fieldViolations\":");
                let mut separator = '[';
                for violation in violations {
                    out.push(std::mem::replace(&mut separator, ','));
                    let mut fields = String::new();
                    put_text(&mut fields, "field", &violation.field);
                    put_text(&mut fields, "description", &violation.description);
                    let _ = write!(out, "{{{}}}", fields.trim_start_matches(','));
                }
                out.push(']');
            }
            "ResourceInfo" => {
                let info = pb::ResourceInfo::decode(value).ok()?;
                put_text(&mut out, "resourceType", &info.resource_type);
                put_text(&mut out, "resourceName", &info.resource_name);
                put_text(&mut out, "owner", &info.owner);
                put_text(&mut out, "description", &info.description);
            }
            "RetryInfo" => {
                let delay = pb::RetryInfo::decode(value).ok()?.retry_delay?;
                // The header has whole seconds, and 0 would invite a retry at once.
                self.retry_after = Some((delay.seconds + i64::from(delay.nanos > 0)).max(1));
                put_text(&mut out, "retryDelay", &delay.to_string());
            }
            _ => return None,
        }
        Some(out)
    }
}

/// Appends a field with a text, unless it is empty.
fn put_text(out: &mut String, name: &str, text: &str) {
    if !text.is_empty() {
        let _ = write!(out, ",\"{name}\":");
        put_string(out, text);
    }
}

/// Returns the status code for a code of gRPC (google/rpc/code.proto).
fn status(code: i32) -> StatusCode {
    match code {
        0 => StatusCode::OK,
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        12 => StatusCode::NOT_IMPLEMENTED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        16 => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
