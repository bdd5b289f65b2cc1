//! Schemas of Rust types, such that what fits the schema fits the type.

mod probe;

use schemars::generate::{Contract, SchemaSettings};
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema as TypeSchema};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use super::inhabited::{Barren, barren};
use super::survey::Survey;
use super::{Schema, SchemaError};

/// Why a Rust type has no schema that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the type `{name}`{}: {fault}", place(.pointer))]
pub struct TypeError {
    /// The type that was asked about.
    pub name: String,
    /// Where in its schema, like a JSON pointer: types stand under `/$defs`, by their names, or
    /// where they are used.
    pub pointer: String,
    /// What is wrong there.
    pub fault: TypeFault,
}

/// What about a Rust type cannot be carried as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeFault {
    /// It has an integer that loses digits on its way.
    #[error(
        "an integer of 128 bits loses digits in JSON: use 64 bits, or a text \
         (`#[serde(with = …)] #[schemars(with = \"String\")]`)"
    )]
    WideInteger,
    /// It has no values.
    #[error(
        "no value exists for it, so no answer could ever fit: give the enum a variant, or make \
         the part optional"
    )]
    NoValue,
    /// Each of its values would hold another one.
    #[error(
        "a value of it needs another one inside, without end: put an `Option` or a `Vec` on the way"
    )]
    Endless,
    /// A map has keys that are neither text nor integers.
    #[error(
        "the keys of a map are neither text nor integers, and JSON has no others: use a list of \
         pairs, or write the key as text"
    )]
    Key,
    /// `null` means two things.
    #[error(
        "`null` is both the missing value and one inside the `Option`, so one of them is lost: use \
         one `Option`, or an enum with names for both"
    )]
    NullTwice,
    /// A pattern looks around.
    #[error(
        "the pattern `{pattern}` looks around or back, which takes unbounded time: write one \
         without, or check the text in the type's own `Deserialize`"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// The schema cannot be used for another reason.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

impl TypeError {
    /// Says `fault` of the part of `T` whose schema stands at `pointer`.
    #[must_use]
    pub fn of<T: JsonSchema + ?Sized>(pointer: String, fault: TypeFault) -> Self {
        Self { name: T::schema_name().into_owned(), pointer, fault }
    }
}

impl Schema {
    /// Returns the schema of what a model gives and Rust reads as a `T`: outputs, and arguments.
    ///
    /// Integers and `f32` get the bounds of their types, and maps with integers as keys take those
    /// only, so that a value which fits the schema can be read.
    ///
    /// # Errors
    ///
    /// [`TypeError`] if JSON cannot carry a `T`, or no schema can describe it.
    ///
    /// # Examples
    ///
    /// ```
    /// use axon_kernel::schema::Schema;
    /// use schemars::JsonSchema;
    ///
    /// #[derive(JsonSchema)]
    /// struct Advice {
    ///     risk: u8,
    /// }
    ///
    /// let schema = Schema::of_deserialized::<Advice>()?;
    /// assert!(schema.validate(&serde_json::json!({"risk": 256})).is_err());
    /// assert!(Schema::of_deserialized::<u128>().is_err());
    /// # Ok::<(), axon_kernel::schema::TypeError>(())
    /// ```
    pub fn of_deserialized<T: JsonSchema + ?Sized>() -> Result<Self, TypeError> {
        of::<T>(Contract::Deserialize)
    }

    /// Returns the schema of what a model gives and Rust reads as a `T`, as
    /// [`Schema::of_deserialized`] does, after a look at how `T` is read: that tells what a schema
    /// does not. What a type checks itself cannot be looked through.
    ///
    /// # Errors
    ///
    /// [`TypeError`] if JSON cannot carry a `T`, or no schema can describe it.
    pub fn for_reading<T: JsonSchema + DeserializeOwned>() -> Result<Self, TypeError> {
        match probe::fault::<T>() {
            None => Self::of_deserialized::<T>(),
            Some((place, fault)) => Err(TypeError::of::<T>(place, fault)),
        }
    }

    /// Returns the schema of what Rust writes as a `T`: dependencies.
    ///
    /// # Errors
    ///
    /// [`TypeError`] if JSON cannot carry a `T`, or no schema can describe it.
    pub fn of_serialized<T: JsonSchema + ?Sized>() -> Result<Self, TypeError> {
        of::<T>(Contract::Serialize)
    }
}

fn of<T: JsonSchema + ?Sized>(contract: Contract) -> Result<Schema, TypeError> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.contract = contract;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(tighten).transform(&mut schema);
    let raw = schema.to_value();
    let error = |(pointer, fault)| TypeError::of::<T>(pointer, fault);
    faults(&raw).map_or(Ok(()), |fault| Err(error(fault)))?;
    let schema = Schema::new(raw).map_err(|fault| error((String::new(), fault.into())))?;
    match barren(schema.raw()) {
        None => Ok(schema),
        Some(Barren { pointer, endless: true }) => Err(error((pointer, TypeFault::Endless))),
        Some(Barren { pointer, endless: false }) => Err(error((pointer, TypeFault::NoValue))),
    }
}

/// Returns what the compiler would not refuse, or not say well enough.
fn faults(raw: &Value) -> Option<(String, TypeFault)> {
    let mut found = None;
    Survey::each(raw, |pointer, schema| {
        let fault = schema.as_object().and_then(fault);
        found = found.take().or_else(|| fault.map(|fault| (pointer.to_owned(), fault)));
    });
    found
}

fn fault(schema: &Map<String, Value>) -> Option<TypeFault> {
    let format = schema.get("format").and_then(Value::as_str);
    if matches!(format, Some("int128" | "uint128")) {
        return Some(TypeFault::WideInteger);
    }
    let names = schema.get("patternProperties").and_then(Value::as_object);
    let names = names.into_iter().flat_map(Map::keys).map(String::as_str);
    let mut patterns = schema.get("pattern").and_then(Value::as_str).into_iter().chain(names);
    let bad = patterns.find(|pattern| !is_pattern(pattern))?;
    Some(TypeFault::Pattern { pattern: bad.to_owned() })
}

fn is_pattern(pattern: &str) -> bool {
    let schema = serde_json::json!({ "pattern": pattern });
    let looks = ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|look| pattern.contains(look));
    !looks || Schema::new(schema).is_ok()
}

/// Adds what the type demands and its derived schema does not say.
fn tighten(schema: &mut TypeSchema) {
    let bounds = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => Some((Number::from(i32::MIN), Number::from(i32::MAX))),
        Some("uint32") => Some((Number::from(0), Number::from(u32::MAX))),
        Some("int64" | "int") => Some((Number::from(i64::MIN), Number::from(i64::MAX))),
        Some("uint64" | "uint") => Some((Number::from(0), Number::from(u64::MAX))),
        Some("float") => Number::from_f64(f32::MIN.into()).zip(Number::from_f64(f32::MAX.into())),
        Some(_) | None => None,
    };
    // A bound of the author's own stands.
    if let Some((min, max)) = bounds
        && schema.get("type").is_some_and(names_a_number)
    {
        let members = schema.ensure_object();
        if !members.contains_key("exclusiveMinimum") {
            members.entry("minimum").or_insert(Value::Number(min));
        }
        if !members.contains_key("exclusiveMaximum") {
            members.entry("maximum").or_insert(Value::Number(max));
        }
    }
    if let Some(Value::Object(names)) = schema.get_mut("patternProperties") {
        // `\d` is a digit of any script, and `007` another key for 7.
        for (derived, exact) in
            [(r"^\d+$", "^(0|[1-9][0-9]*)$"), (r"^-?\d+$", "^(0|-?[1-9][0-9]*)$")]
        {
            if let Some(values) = names.remove(derived) {
                names.insert(exact.to_owned(), values);
            }
        }
    }
}

fn names_a_number(kind: &Value) -> bool {
    let is_number = |kind: &Value| kind == "integer" || kind == "number";
    is_number(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(is_number))
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() { String::new() } else { format!(", at {pointer}") }
}

#[cfg(test)]
mod tests;
