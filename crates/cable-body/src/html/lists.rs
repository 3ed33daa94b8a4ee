//! Lists, and the numbers of their items.

use scraper::ElementRef;

use super::{
    block,
    blocks::{Context, Flow, Walker},
};
use cable_proto::limit;
use cable_proto::v1::{self, Block, block::Kind};

/// The items of a list, each with the number that readers see.
struct Items {
    items: Vec<(i64, Vec<Block>)>,
    next: i64,
    step: i64,
}

/// Adds a list block, or the list's HTML if it is nested too deeply.
pub(super) fn list(walker: &mut Walker<'_>, element: ElementRef<'_>, context: &Context, flow: &mut Flow) {
    if context.depth + 2 > limit::BLOCK_DEPTH.maximum as usize {
        return walker.raw(element, context, flow);
    }
    let inner = &context.inner();
    let mut items = Items::new(element);
    let mut stray = Flow::default();
    for child in element.children() {
        let item = ElementRef::wrap(child).filter(|e| e.value().name() == "li");
        if let Some(item) = item {
            add_stray(walker, &mut stray, inner, &mut items);
            walker.ids.add_block(item);
            let blocks = walker.flow_of(*item, inner);
            items.push(item, blocks);
        } else {
            walker.node(child, inner, &mut stray);
        }
    }
    add_stray(walker, &mut stray, inner, &mut items);
    let ordered = element.value().name() == "ol";
    flow.blocks.extend(items.into_list(ordered, walker).map(|list| block(Kind::List(list))));
}

/// Adds content of a list outside its items to the item before it.
fn add_stray(walker: &mut Walker<'_>, stray: &mut Flow, context: &Context, items: &mut Items) {
    walker.flush(stray, context);
    let blocks = std::mem::take(&mut stray.blocks);
    match items.items.last_mut() {
        Some((_, item)) => item.extend(blocks),
        None if !blocks.is_empty() => items.items.push((items.next, blocks)),
        None => {}
    }
}

impl Items {
    fn new(list: ElementRef<'_>) -> Self {
        let reversed = list.attr("reversed").is_some();
        let count = || list.child_elements().filter(|child| child.value().name() == "li").count();
        let default = if reversed { i64::try_from(count()).unwrap_or(i64::MAX) } else { 1 };
        let next = number(list, "start").unwrap_or(default);
        Items { items: Vec::new(), next, step: if reversed { -1 } else { 1 } }
    }

    fn push(&mut self, item: ElementRef<'_>, blocks: Vec<Block>) {
        let number = number(item, "value").unwrap_or(self.next);
        self.items.push((number, blocks));
        self.next = number.saturating_add(self.step);
    }

    /// Returns the list of the items that are not empty. Reports numbers of items that it cannot have.
    fn into_list(mut self, ordered: bool, walker: &mut Walker<'_>) -> Option<v1::List> {
        self.items.retain(|(_, blocks)| !blocks.is_empty());
        let first = self.items.first()?.0;
        let start = i32::try_from(first).ok().filter(|start| ordered && *start != 1).unwrap_or(0);
        let stored = (if start == 0 { 1 } else { i64::from(start) })..;
        let changed = self.items.iter().zip(stored).find(|((shown, _), stored)| shown != stored);
        if let Some(((shown, _), stored)) = changed.filter(|_| ordered) {
            walker.notes.add(|| format!("<ol>: item {shown} and those after it are numbered from {stored}"));
        }
        let items = self.items.into_iter().map(|(_, blocks)| v1::ListItem { blocks }).collect();
        Some(v1::List { ordered, start, items })
    }
}

/// Returns the number in an attribute, if a list can have it.
fn number(element: ElementRef<'_>, attribute: &str) -> Option<i64> {
    element.attr(attribute)?.trim().parse::<i32>().ok().map(i64::from)
}

#[cfg(test)]
mod tests {
    use super::super::plain_body;
    use super::*;

    #[test]
    fn numbers_of_items_stay_or_are_reported() {
        let items = |values: [&str; 3]| values.map(|value| format!("<li{value}>a</li>")).concat();
        for (list, values, start, note) in [
            ("<ol>", ["", "", ""], 0, None),
            ("<ol start=3>", ["", "", ""], 3, None),
            ("<ol start=-1>", ["", "", ""], -1, None),
            ("<ol start=x>", ["", "", ""], 0, None),
            ("<ol>", [" value=10", "", " value=12"], 10, None),
            ("<ol start=0>", ["", "", ""], 0, Some((0, 1))),
            ("<ol reversed>", ["", "", ""], 3, Some((2, 4))),
            ("<ol reversed start=10>", ["", "", ""], 10, Some((9, 11))),
            ("<ol>", ["", "", " value=10"], 0, Some((10, 3))),
            ("<ul>", ["", "", " value=10"], 0, None),
        ] {
            let html = format!("{list}{}", items(values));
            let converted = plain_body(&html).unwrap();
            let [Block { kind: Some(Kind::List(found)), .. }] = &converted.body.blocks[..] else {
                panic!("{converted:?}")
            };
            assert_eq!(found.start, start, "{html}");
            let wanted = note.map(|(shown, stored)| {
                format!("<ol>: item {shown} and those after it are numbered from {stored}")
            });
            assert_eq!(converted.notes.lines.first(), wanted.as_ref(), "{html}");
        }
        let converted = plain_body("<ol><li></li><li>a</li></ol>").unwrap();
        assert!(matches!(&converted.body.blocks[0].kind, Some(Kind::List(list)) if list.start == 2));
    }
}
