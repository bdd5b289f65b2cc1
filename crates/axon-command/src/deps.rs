//! `--dep KEY=VALUE` and `--deps JSON`: what a caller gives to tools and prompts.

use axon_kernel::json::{JsonError, RawJson};
use serde_json::{Map, Value};

use crate::args::DepsArgs;
use crate::report::Report;

/// A text that is not `KEY=VALUE`.
#[derive(Debug, thiserror::Error)]
#[error("write it as KEY=VALUE, such as customer_id=123")]
pub(crate) struct NotAPair;

/// Splits `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), NotAPair> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(NotAPair),
    }
}

/// Reads one JSON value.
pub(crate) fn json(text: &str) -> Result<RawJson, JsonError> {
    RawJson::parse(text)
}

impl DepsArgs {
    /// Returns whether any were given.
    pub(crate) fn is_given(&self) -> bool {
        self.deps.is_some() || !self.dep.is_empty()
    }

    /// Returns the deps that were given, if any were. `schema` tells text from numbers.
    pub(crate) fn read(&self, schema: Option<&Value>) -> Result<Option<RawJson>, Report> {
        if self.dep.is_empty() {
            return Ok(self.deps.clone());
        }
        let not_an_object = || {
            Report::usage("--dep adds to the object in --deps, which is no object")
                .todo("give --deps '{\"key\": value}', or only --dep")
        };
        let mut deps: Map<String, Value> = match &self.deps {
            None => Map::new(),
            Some(deps) => deps.decode().map_err(|_unsaid| not_an_object())?,
        };
        for (key, text) in &self.dep {
            let value = value(text, &types(schema, key));
            if deps.insert(key.clone(), value).is_some() {
                return Err(Report::usage(format!("`{key}` is given twice")));
            }
        }
        Ok(Some(Value::Object(deps).into()))
    }
}

/// Returns the value that `text` stands for: JSON if it parses, unless text is what is wanted.
fn value(text: &str, types: &[&str]) -> Value {
    let plain = || Value::String(text.to_owned());
    let Ok(raw) = RawJson::parse(text) else { return plain() };
    let Ok(value) = raw.decode::<Value>() else { return plain() };
    let is_wanted = match &value {
        Value::String(_) => false,
        Value::Null => types.contains(&"null"),
        Value::Bool(_) => types.contains(&"boolean"),
        Value::Number(number) => {
            types.contains(&"number") || (types.contains(&"integer") && !number.is_f64())
        }
        Value::Array(_) => types.contains(&"array"),
        Value::Object(_) => types.contains(&"object"),
    };
    if types.contains(&"string") && !is_wanted { plain() } else { value }
}

/// Returns the JSON types that the property `key` may have; none where the schema does not say.
fn types<'a>(schema: Option<&'a Value>, key: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    if let Some(root) = schema {
        let root_object = resolve(root, root);
        collect(root, &root_object["properties"][key], &mut found);
    }
    found
}

fn collect<'a>(root: &'a Value, schema: &'a Value, found: &mut Vec<&'a str>) {
    let schema = resolve(root, schema);
    match &schema["type"] {
        Value::String(name) => found.push(name),
        Value::Array(names) => found.extend(names.iter().filter_map(Value::as_str)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
    if schema.get("type").is_none()
        && schema["enum"].as_array().is_some_and(|options| options.iter().all(Value::is_string))
    {
        found.push("string");
    }
    for options in ["anyOf", "oneOf"] {
        for option in schema[options].as_array().into_iter().flatten() {
            // One level is what the schemas of pydantic's optional fields have.
            let option = resolve(root, option);
            found.extend(option["type"].as_str());
        }
    }
}

/// Follows one reference within the schema.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(dep: &[&str], deps: Option<&str>, schema: Value) -> Result<String, Report> {
        let args = DepsArgs {
            dep: dep.iter().map(|text| pair(text).unwrap()).collect(),
            deps: deps.map(|text| json(text).unwrap()),
        };
        args.read(Some(&schema)).map(|deps| deps.unwrap().to_string())
    }

    #[test]
    fn values_are_json_where_they_parse_and_text_elsewhere() {
        let deps = read(&["a=1", "b=true", "c=some text", "d=x=y", "e="], None, json!({}));
        assert_eq!(deps.unwrap(), r#"{"a":1,"b":true,"c":"some text","d":"x=y","e":""}"#);
    }

    #[test]
    fn what_the_schema_calls_text_stays_text() {
        let schema = json!({
            "properties": {
                "zip": { "type": "string" },
                "note": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
                "kind": { "$ref": "#/$defs/Kind" },
                "either": { "type": ["string", "integer"] },
            },
            "$defs": { "Kind": { "enum": ["1", "2"] } },
        });
        let deps = ["zip=01234", "zip2=5", "note=null", "kind=1", "either=7"];
        assert_eq!(
            read(&deps, None, schema.clone()).unwrap(),
            r#"{"zip":"01234","zip2":5,"note":null,"kind":"1","either":7}"#
        );
        assert_eq!(read(&["zip=\"a\""], None, schema).unwrap(), r#"{"zip":"\"a\""}"#);
    }

    #[test]
    fn single_values_add_to_the_object_and_never_replace() {
        assert_eq!(read(&["b=2"], Some(r#"{"a":1}"#), json!({})).unwrap(), r#"{"a":1,"b":2}"#);
        assert!(read(&["a=2"], Some(r#"{"a":1}"#), json!({})).is_err());
        assert!(read(&["a=2"], Some("[1]"), json!({})).is_err());
    }

    #[test]
    fn a_pair_needs_a_key_and_an_equals_sign() {
        assert!(pair("a").is_err() && pair("=1").is_err());
    }
}
