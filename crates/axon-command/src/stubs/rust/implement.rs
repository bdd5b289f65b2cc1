//! The schemas of the types that were generated: the very parts that they were made of, so that
//! what they allow and what their schema says do not drift apart.

use std::collections::BTreeMap;

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::Value;
use syn::{Attribute, Expr, ExprLit, Fields, File, Ident, Item, Lit, Meta, parse_quote};

use super::prepare::MARK;
use super::survey::{Holds, holds};

/// What stands before the name of a type where a schema refers to it.
const DEFINITIONS: &str = "#/$defs/";

/// The types that were generated, by the places of what they were made of.
type Made = BTreeMap<String, Ident>;

/// Gives each type of `file` the schema that it was made of.
pub(super) fn schemas(
    mut file: File,
    originals: &BTreeMap<String, Value>,
) -> Result<File, syn::Error> {
    let mut made = Made::new();
    for item in &mut file.items {
        let Some((ident, attributes)) = named(item) else { continue };
        let ident = ident.clone();
        match place_of(attributes) {
            Some(place) if originals.contains_key(&place) => {
                made.insert(place, ident);
            }
            Some(_) | None => attributes.push(parse_quote!(#[derive(::schemars::JsonSchema)])),
        }
        within(item);
    }
    if !made.is_empty() {
        file.items.push(helper());
    }
    for (place, ident) in &made {
        let implementation = implementation(ident, &originals[place], &made);
        file.items.push(syn::parse2(implementation)?);
    }
    Ok(file)
}

fn named(item: &mut Item) -> Option<(&Ident, &mut Vec<Attribute>)> {
    if let Item::Struct(item) = item {
        Some((&item.ident, &mut item.attrs))
    } else if let Item::Enum(item) = item {
        Some((&item.ident, &mut item.attrs))
    } else {
        None
    }
}

/// Takes the place of a schema out of its description.
fn place_of(attributes: &mut Vec<Attribute>) -> Option<String> {
    let mut place = None;
    attributes.retain_mut(|attribute| {
        let Some(text) = doc(attribute) else { return true };
        let Some((found, rest)) = text.strip_prefix(MARK).and_then(|text| text.split_once(MARK))
        else {
            return true;
        };
        place = Some(found.to_owned());
        if rest.is_empty() {
            return false;
        }
        // As `///` does, so that the text is shown as it is.
        let rest: String = rest.lines().map(|line| format!(" {line}\n")).collect();
        let rest = rest.trim_end();
        *attribute = parse_quote!(#[doc = #rest]);
        true
    });
    place
}

fn doc(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else { return None };
    match (&meta.value, meta.path.is_ident("doc")) {
        (Expr::Lit(ExprLit { lit: Lit::Str(text), .. }), true) => Some(text.value()),
        _ => None,
    }
}

/// Takes the places out of the descriptions of fields and variants.
fn within(item: &mut Item) {
    let in_fields = |fields: &mut Fields| {
        for field in fields {
            place_of(&mut field.attrs);
        }
    };
    if let Item::Struct(item) = item {
        in_fields(&mut item.fields);
    } else if let Item::Enum(item) = item {
        for variant in &mut item.variants {
            place_of(&mut variant.attrs);
            in_fields(&mut variant.fields);
        }
    }
}

fn implementation(ident: &Ident, original: &Value, made: &Made) -> TokenStream {
    let mut schema = original.clone();
    let mut referred = Vec::new();
    rename(&mut schema, made, &mut referred);
    if let Value::Object(schema) = &mut schema {
        for key in ["$defs", "definitions", "$schema", "$id"] {
            schema.remove(key);
        }
    }
    let (name, text) = (ident.to_string(), raw(&format!("{schema:#}"), ident));
    let generator = if referred.is_empty() { "_generator" } else { "generator" };
    let generator = Ident::new(generator, ident.span());
    let places = referred.iter().map(|ident| format!("{DEFINITIONS}{ident}"));
    quote! {
        impl ::schemars::JsonSchema for #ident {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                #name.into()
            }
            fn schema_id() -> ::std::borrow::Cow<'static, str> {
                ::std::concat!(::std::module_path!(), "::", #name).into()
            }
            fn json_schema(#generator: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                let references = [#((#places, #generator.subschema_for::<#referred>())),*];
                schemas::with(&references, #text)
            }
        }
    }
}

/// Returns what puts the references of a schema where the generator of schemas wants them.
fn helper() -> Item {
    parse_quote! {
        /// Schemas as they were written.
        mod schemas {
            use ::serde_json::Value;

            pub(super) fn with(
                references: &[(&str, ::schemars::Schema)],
                text: &str,
            ) -> ::schemars::Schema {
                let mut schema = ::serde_json::from_str(text).expect("it is JSON");
                refer(&mut schema, references);
                schema.try_into().expect("it is a schema")
            }

            fn refer(value: &mut Value, references: &[(&str, ::schemars::Schema)]) {
                match value {
                    Value::Array(items) => items.iter_mut().for_each(|item| refer(item, references)),
                    Value::Object(members) => {
                        members.values_mut().for_each(|member| refer(member, references));
                        let found = members.get("$ref").and_then(Value::as_str);
                        let found = found.and_then(|place| {
                            references.iter().find(|(name, _)| *name == place)
                        });
                        if let Some((_, schema)) = found {
                            members.remove("$ref");
                            members.extend(schema.as_object().cloned().unwrap_or_default());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Returns a text as it is, over several lines, where Rust can write it so.
fn raw(text: &str, at: &Ident) -> syn::LitStr {
    let fence =
        "#".repeat((1..).find(|n| !text.contains(&format!("\"{}", "#".repeat(*n)))).unwrap_or(1));
    let literal = syn::parse_str(&format!("r{fence}\"{text}\"{fence}"));
    literal.unwrap_or_else(|_| syn::LitStr::new(text, at.span()))
}

/// Has references name the types that were made.
fn rename(schema: &mut Value, made: &Made, referred: &mut Vec<Ident>) {
    let Value::Object(schema) = schema else { return };
    if let Some(Value::String(reference)) = schema.get_mut("$ref")
        && let Some(ident) = made.get(reference.as_str())
    {
        *reference = format!("{DEFINITIONS}{ident}");
        if !referred.contains(ident) {
            referred.push(ident.clone());
        }
    }
    for (key, value) in schema.iter_mut() {
        match (holds(key, value), value) {
            // The definitions are types of their own.
            _ if key == "$defs" || key == "definitions" => {}
            (Holds::Named, Value::Object(members)) => {
                members.values_mut().for_each(|child| rename(child, made, referred));
            }
            (Holds::Listed, Value::Array(items)) => {
                items.iter_mut().for_each(|child| rename(child, made, referred));
            }
            (Holds::One, child) => rename(child, made, referred),
            (Holds::Named | Holds::Listed | Holds::Data, _) => {}
        }
    }
}
