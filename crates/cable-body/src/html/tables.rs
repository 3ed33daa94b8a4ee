//! Tables. A cell with one run of text has spans, every other cell has blocks.

use scraper::ElementRef;

use super::{
    block,
    blocks::{Context, Flow, Walker},
    markup,
    notes::quoted,
    runs,
};
use cable_proto::limit;
use cable_proto::v1::{self, Block, block::Kind};

/// Adds a table block, or the table's HTML if it is not made of rows and cells, too long, or nested too deeply.
pub(super) fn table(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    let too_deep = context.depth + 2 > limit::BLOCK_DEPTH.maximum as usize;
    let rows = if is_regular(element) { rows(element) } else { Vec::new() };
    if too_deep || rows.len() as u64 > limit::BLOCKS.maximum || !is_regular(element) {
        return walker.raw(element, context, flow);
    }
    let mut table = v1::Table::default();
    let mut rest = Vec::new();
    for caption in element.child_elements().filter(|part| part.value().name() == "caption") {
        let (spans, blocks) = walker.spans_of(*caption, context);
        runs::append(&mut table.caption, spans);
        rest.extend(blocks);
    }
    table.rows.extend(rows.into_iter().map(|found| row(walker, found, &context.in_cell())));
    table.rows.retain(|row| !row.cells.is_empty());
    if !table.rows.is_empty() {
        flow.blocks.push(block(Kind::Table(table)));
    } else if !table.caption.is_empty() {
        flow.blocks.push(runs::paragraph(table.caption));
    }
    flow.blocks.extend(rest);
}

/// Returns whether the table has only parts, rows and cells, each in its place.
fn is_regular(part: ElementRef<'_>) -> bool {
    part.child_elements().all(|child| match child.value().name() {
        "thead" | "tbody" | "tfoot" => part.value().name() == "table" && is_regular(child),
        "tr" => child.child_elements().all(|cell| matches!(cell.value().name(), "td" | "th")),
        "caption" | "colgroup" | "col" => part.value().name() == "table",
        _ => false,
    })
}

fn rows(part: ElementRef<'_>) -> Vec<ElementRef<'_>> {
    let mut found = Vec::new();
    for child in part.child_elements() {
        match child.value().name() {
            "tr" => found.push(child),
            "thead" | "tbody" | "tfoot" => found.extend(rows(child)),
            _ => {}
        }
    }
    found
}

fn row(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context) -> v1::TableRow {
    if let Some(id) = element.attr("id") {
        walker.notes.add(|| format!("id {}: left out, a row of a table is not a block", quoted(id)));
    }
    v1::TableRow { cells: element.child_elements().map(|found| cell(walker, found, context)).collect() }
}

fn cell(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context) -> v1::TableCell {
    let covers = |attribute| {
        markup::number(element, attribute).filter(|n| *n > 1).unwrap_or(0).min(limit::SPAN.maximum as i32)
    };
    walker.ids.add_block(element);
    let mut cell = v1::TableCell {
        header: element.value().name() == "th",
        column_span: covers("colspan"),
        row_span: covers("rowspan"),
        ..Default::default()
    };
    let mut blocks = walker.flow_of(*element, context);
    match &mut blocks[..] {
        [Block { id, kind: Some(Kind::Paragraph(only)) }] if id.is_empty() => {
            cell.spans = std::mem::take(&mut only.spans);
        }
        _ => cell.blocks = blocks,
    }
    cell
}
