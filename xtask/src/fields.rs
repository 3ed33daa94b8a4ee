//! The list of the schema's messages, fields, enums and calls, one per line. It is checked in, so that a change of the
//! wire format shows as a change of one line.

use std::fmt::Write as _;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// Returns the list: `Message.field = number type`, and likewise for enums and calls.
pub(crate) fn list(schema: &FileDescriptorSet) -> String {
    let mut out = String::from("# Written by `cargo run -p xtask -- gen` from proto/.\n");
    for file in schema.file.iter().filter(|file| file.package().starts_with("cable.")) {
        list_file(file, &mut out);
    }
    out
}

fn list_file(file: &FileDescriptorProto, out: &mut String) {
    let package = file.package();
    file.message_type.iter().for_each(|message| list_message(package, message, out));
    file.enum_type.iter().for_each(|of| list_enum(package, of, out));
    file.service.iter().for_each(|service| list_service(package, service, out));
}

fn list_message(scope: &str, message: &DescriptorProto, out: &mut String) {
    let scope = format!("{scope}.{}", message.name());
    for field in &message.field {
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        let optional = if field.proto3_optional() { "optional " } else { "" };
        let of = match field.r#type() {
            Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
            scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
        };
        line(out, &format!("{scope}.{} = {} {repeated}{optional}{of}", field.name(), field.number()));
    }
    for range in &message.reserved_range {
        line(out, &format!("{scope} reserves {} to {}", range.start(), range.end() - 1));
    }
    message.nested_type.iter().for_each(|nested| list_message(&scope, nested, out));
    message.enum_type.iter().for_each(|nested| list_enum(&scope, nested, out));
}

fn list_enum(scope: &str, of: &EnumDescriptorProto, out: &mut String) {
    for value in &of.value {
        line(out, &format!("{scope}.{}.{} = {}", of.name(), value.name(), value.number()));
    }
}

fn list_service(package: &str, service: &ServiceDescriptorProto, out: &mut String) {
    let stream = |is_stream| if is_stream { "stream " } else { "" };
    for call in &service.method {
        let (request, response) = (call.input_type(), call.output_type());
        line(
            out,
            &format!(
                "{package}.{}/{} ({}{}) returns ({}{})",
                service.name(),
                call.name(),
                stream(call.client_streaming()),
                request.trim_start_matches('.'),
                stream(call.server_streaming()),
                response.trim_start_matches('.'),
            ),
        );
    }
}

fn line(out: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{line}");
}
