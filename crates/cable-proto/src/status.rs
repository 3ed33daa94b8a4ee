//! The codes of gRPC statuses.

/// Returns the name of a gRPC code, as google.rpc.Code spells it.
#[must_use]
pub fn code_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_google_rpc_code() {
        assert_eq!(
            [0, 5, 10, 14, 16].map(code_name),
            ["OK", "NOT_FOUND", "ABORTED", "UNAVAILABLE", "UNAUTHENTICATED"]
        );
        assert_eq!([-1, 17].map(code_name), ["UNKNOWN"; 2]);
    }
}
