//! What is known of a member of values of a schema.

use serde_json::Value;

use super::{Kinds, Node, kinds, property, values};
use crate::spec::unknown::nearest;

/// How deep references are followed before anything is possible.
const MAX_DEPTH: u32 = 32;

/// What is known of a member.
pub(crate) enum Member<'a> {
    /// Nothing: it may be anything.
    Any,
    /// It fits one of these.
    Of(Vec<Node<'a>>),
    /// It can never be there.
    Never(String),
}

/// Returns what is known of the member `name` of values of `node`.
pub(crate) fn member<'a>(node: Node<'a>, name: &str) -> Member<'a> {
    within(node, name, 0)
}

fn within<'a>(node: Node<'a>, name: &str, depth: u32) -> Member<'a> {
    if depth > MAX_DEPTH || *node.value == Value::Bool(false) {
        return Member::Any;
    }
    let parts = node.parts().into_iter().map(|part| within(part, name, depth + 1));
    let choices = node
        .choices()
        .into_iter()
        .map(|choices| any(choices.into_iter().map(|choice| within(choice, name, depth + 1))));
    // A value fits all of them, so what one of them rules out is never there.
    let mut found = own(node, name);
    for part in parts.chain(choices) {
        found = match (found, part) {
            (never @ Member::Never(_), _) | (_, never @ Member::Never(_)) => return never,
            (Member::Any, part) => part,
            (found, _) => found,
        };
    }
    found
}

fn any<'a>(choices: impl Iterator<Item = Member<'a>>) -> Member<'a> {
    let (mut nodes, mut never) = (Vec::new(), None);
    for choice in choices {
        match choice {
            Member::Any => return Member::Any,
            Member::Of(more) => nodes.extend(more),
            Member::Never(why) => never = Some(telling(never, why)),
        }
    }
    match never {
        Some(why) if nodes.is_empty() => Member::Never(why),
        Some(_) | None => Member::Of(nodes),
    }
}

/// Returns the one of two reasons that tells more: that it has other members, or is not just null.
pub(crate) fn telling(one: Option<String>, another: String) -> String {
    let tells = |why: &str| (why.starts_with("has no"), !why.starts_with("is null"));
    match one {
        Some(one) if tells(&one) >= tells(&another) => one,
        Some(_) | None => another,
    }
}

fn own<'a>(node: Node<'a>, name: &str) -> Member<'a> {
    let Value::Object(members) = node.value else { return Member::Any };
    let kinds = Kinds::own(members);
    if !kinds.may_be_object() {
        return Member::Never(format!("is {kinds}, and has no members"));
    }
    if values(members).is_some() {
        return Member::Any;
    }
    match property(members, name) {
        Some(Value::Bool(false)) => {
            let names = members.get("properties").and_then(Value::as_object);
            let names: Vec<&str> =
                names.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let hint = match nearest(name, names.iter().copied()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None if names.is_empty() => String::new(),
                None => format!("; it has {}", names.join(", ")),
            };
            Member::Never(format!("has no `{name}`{hint}"))
        }
        Some(value) => Member::Of(vec![Node { value, ..node }]),
        None => Member::Any,
    }
}

/// Returns the texts that values of `node` can be, if only certain ones.
pub(crate) fn texts(node: Node<'_>) -> Option<Vec<String>> {
    texts_within(node, 0)
}

fn texts_within(node: Node<'_>, depth: u32) -> Option<Vec<String>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let own =
        node.value.as_object().and_then(values).map(|values| {
            values.into_iter().filter_map(Value::as_str).map(str::to_owned).collect()
        });
    let parts = || node.parts().into_iter().find_map(|part| texts_within(part, depth + 1));
    let choices = || {
        node.choices().into_iter().find_map(|choices| {
            let may_be_text = choices.into_iter().filter(|choice| kinds(*choice).may_be_text());
            let all = may_be_text.map(|choice| texts_within(choice, depth + 1));
            all.collect::<Option<Vec<_>>>().map(|all| all.concat())
        })
    };
    own.or_else(parts).or_else(choices)
}
