//! Tables whose cells hold running text.

use scraper::ElementRef;

use super::{
    block,
    blocks::{Context, Flow, Walker},
    markup, runs,
};
use cable_proto::limit;
use cable_proto::v1::{self, block::Kind};

/// Adds a table block, or the table's HTML if a cell holds blocks.
pub(super) fn table(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    let (raw_html, dropped) = (walker.raw_html, walker.dropped);
    let mut table = v1::Table::default();
    if !rows(walker, element, context, &mut table) || table.rows.len() as u64 > limit::BLOCKS.maximum {
        (walker.raw_html, walker.dropped) = (raw_html, dropped);
        return walker.raw(element, context, flow);
    }
    if !table.rows.is_empty() {
        flow.blocks.push(block(Kind::Table(table)));
    } else if !table.caption.is_empty() {
        flow.blocks.push(runs::paragraph(table.caption));
    }
}

/// Adds the rows of a table or of one of its parts. Returns false if the content cannot become rows.
fn rows(walker: &mut Walker<'_>, part: ElementRef<'_>, context: &Context, table: &mut v1::Table) -> bool {
    for child in part.child_elements() {
        let fits = match child.value().name() {
            "tr" => row(walker, child, context, table),
            "thead" | "tbody" | "tfoot" => rows(walker, child, context, table),
            "caption" => {
                let (spans, rest) = walker.spans_of(*child, context);
                runs::append(&mut table.caption, spans);
                rest.is_empty()
            }
            "colgroup" | "col" => true,
            _ => false,
        };
        if !fits {
            return false;
        }
    }
    true
}

fn row(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, table: &mut v1::Table) -> bool {
    let mut row = v1::TableRow::default();
    for child in element.child_elements() {
        let header = match child.value().name() {
            "th" => true,
            "td" => false,
            _ => return false,
        };
        let (spans, rest) = walker.spans_of(*child, context);
        if !rest.is_empty() {
            return false;
        }
        let covers = |attribute| {
            markup::number(child, attribute).filter(|n| *n > 1).unwrap_or(0).min(limit::SPAN.maximum as i32)
        };
        let (column_span, row_span) = (covers("colspan"), covers("rowspan"));
        row.cells.push(v1::TableCell { spans, header, column_span, row_span, blocks: Vec::new() });
    }
    if !row.cells.is_empty() {
        table.rows.push(row);
    }
    true
}
