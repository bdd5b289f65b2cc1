//! JSON values as expressions and templates have them.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object};
use serde_json::{Number, Value};

/// A value as expressions and templates have it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Known(pub(super) minijinja::Value);

impl From<&Value> for Known {
    fn from(value: &Value) -> Self {
        Self(known(value))
    }
}

/// The members of an object, which stay in their order.
#[derive(Debug)]
struct Members(Vec<(minijinja::Value, minijinja::Value)>);

impl Object for Members {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let member = self.0.iter().find(|(name, _)| name == key);
        member.map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| name.clone()).collect())
    }
}

fn known(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(value) => minijinja::Value::from(*value),
        Value::Number(number) => self::number(number),
        Value::String(text) => minijinja::Value::from(text.as_str()),
        Value::Array(items) => minijinja::Value::from_iter(items.iter().map(known)),
        Value::Object(members) => {
            let member = |(name, value): (&String, _)| (minijinja::Value::from(name), known(value));
            minijinja::Value::from_object(Members(members.iter().map(member).collect()))
        }
    }
}

fn number(number: &Number) -> minijinja::Value {
    match (number.as_i64(), number.as_u64()) {
        (Some(number), _) => minijinja::Value::from(number),
        (None, Some(number)) => minijinja::Value::from(number),
        (None, None) => minijinja::Value::from(number.as_f64().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn back(value: &Value) -> Value {
        serde_json::to_value(Known::from(value).0).unwrap()
    }

    #[test]
    fn members_are_found_and_stay_in_their_order() {
        let value = json!({ "b": { "z": null, "a": [1, 2.5] }, "a": u64::MAX });
        assert_eq!(back(&value).to_string(), value.to_string());
        let environment = minijinja::Environment::new();
        let values = minijinja::context! { x => Known::from(&value).0 };
        let shown = |source| environment.render_str(source, &values).unwrap();
        assert_eq!(
            shown("{{ x.b.a[1] }} {{ x['a'] }} {{ x.b | length }}"),
            "2.5 18446744073709551615 2"
        );
        assert_eq!(shown("{% for name in x %}{{ name }}{% endfor %}{{ 'b' in x }}"), "baTrue");
        assert_eq!(
            shown("{{ x.b == {'a': [1, 2.5], 'z': none} }} {{ x.gone is defined }}"),
            "True False"
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("\\PC{0,4}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_comes_back_as_it_was(value in any_value()) {
            prop_assert_eq!(back(&value).to_string(), value.to_string());
        }
    }
}
