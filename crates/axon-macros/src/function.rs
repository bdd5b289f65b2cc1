//! The function that becomes a tool, once it is known to be able to.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ItemFn, Pat, PatType, PathArguments,
    PathSegment, ReturnType, Safety, Signature, Type,
};

use crate::description::description;

/// The function that becomes a tool.
#[derive(Clone)]
pub(crate) struct Function {
    /// As it was written, without what is not its own.
    pub(crate) item: ItemFn,
    /// What the model is told.
    pub(crate) description: String,
    pub(crate) context: Option<Context>,
    pub(crate) arguments: Vec<Argument>,
    /// What it returns.
    pub(crate) returned: Type,
    /// The attributes that say what it is, and not how it is called.
    pub(crate) docs: Vec<Attribute>,
    /// The attributes that say when it is there.
    pub(crate) conditions: Vec<Attribute>,
}

/// The first argument, where it is the context of the call.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) whole: Type,
    /// The deps, where they are named.
    pub(crate) deps: Option<Type>,
}

/// What the model gives.
#[derive(Clone)]
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) whole: Type,
    /// What the field gets that is made of it.
    pub(crate) attributes: Vec<Attribute>,
}

/// Reads a function, and nothing else.
pub(crate) fn item(input: ParseStream<'_>) -> syn::Result<ItemFn> {
    let at = input.fork().parse::<TokenStream>()?;
    let item: syn::Result<ItemFn> = input.parse();
    item.map_err(|error| {
        if looks_like_function(&at) {
            return error;
        }
        Error::new_spanned(at, "`#[tool]` makes an async fn a tool: put it on one")
    })
}

fn looks_like_function(tokens: &TokenStream) -> bool {
    tokens.clone().into_iter().any(|token| token.to_string() == "fn")
}

impl Function {
    /// Looks whether `item` can be a tool.
    pub(crate) fn new(mut item: ItemFn) -> syn::Result<Self> {
        let mut wrong = Wrong::default();
        let description = description(&item.attrs);
        if description.is_none() {
            let at = &item.sig.ident;
            let message = "a tool needs a doc comment: the model is told by it what the tool does\n\
                           write `/// Returns …` above it";
            wrong.add(Error::new_spanned(at, message));
        }
        wrong.signature(&item.sig);
        let (context, arguments) = wrong.inputs(&mut item.sig);
        let returned = wrong.returned(&item.sig);
        if let Some(wrong) = wrong.0 {
            return Err(wrong);
        }
        let mut take = |name| item.attrs.extract_if(.., |it| it.path().is_ident(name)).collect();
        let (docs, conditions) = (take("doc"), take("cfg"));
        Ok(Self {
            item,
            description: description.unwrap_or_default(),
            context,
            arguments,
            returned,
            docs,
            conditions,
        })
    }
}

/// Everything that is wrong with a function, to be told at once.
#[derive(Debug, Default)]
struct Wrong(Option<Error>);

impl Wrong {
    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(wrong) => wrong.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn at(&mut self, place: &impl ToTokens, message: impl std::fmt::Display) {
        self.add(Error::new_spanned(place, message));
    }

    fn signature(&mut self, signature: &Signature) {
        if signature.asyncness.is_none() {
            let message = format!("a tool is async: write `async fn {}`", signature.ident);
            self.at(&signature.fn_token, message);
        }
        if !signature.generics.params.is_empty() {
            let message = "a tool is not generic: the model is told one schema, so name the types";
            self.at(&signature.generics, message);
        } else if let Some(clause) = &signature.generics.where_clause {
            self.at(clause, "a tool is not generic: leave the `where` out");
        }
        if let Safety::Unsafe(at) = &signature.safety {
            self.at(at, "a tool is called by a model: it cannot be unsafe");
        }
        if let Some(abi) = &signature.abi {
            self.at(abi, "a tool is a plain async fn: leave the `extern` out");
        }
    }

    /// Takes the context and the arguments out of a signature, with their attributes.
    fn inputs(&mut self, signature: &mut Signature) -> (Option<Context>, Vec<Argument>) {
        let (mut context, mut arguments) = (None, Vec::new());
        for (place, input) in signature.inputs.iter_mut().enumerate() {
            match input {
                FnArg::Receiver(receiver) => {
                    let message = "a tool is a function of its own, outside of any `impl`: \
                                   what it works on comes by its context";
                    self.at(receiver, message);
                }
                FnArg::Typed(typed) => match context_of(&typed.ty) {
                    Some(found) if place == 0 => context = Some(found),
                    Some(_) => self.at(&typed.ty, "the context comes first: move it there"),
                    None => arguments.extend(self.argument(typed)),
                },
            }
        }
        (context, arguments)
    }

    fn argument(&mut self, typed: &mut PatType) -> Option<Argument> {
        let ours = |attribute: &mut Attribute| {
            ["doc", "serde", "schemars"].iter().any(|name| attribute.path().is_ident(name))
        };
        let attributes = typed.attrs.extract_if(.., ours).collect();
        if let Type::Reference(reference) = &*typed.ty {
            let owned = owned(&reference.elem);
            self.at(&typed.ty, format!("a tool owns its arguments: write `{owned}`"));
        } else if let Type::ImplTrait(_) = &*typed.ty {
            let message = "a tool is not generic: the model is told one schema, so name the type";
            self.at(&typed.ty, message);
        }
        let Pat::Ident(name) = &*typed.pat else {
            let message = "the model gives arguments by name: write `name: Type`, and take it \
                           apart in the body";
            self.at(&typed.pat, message);
            return None;
        };
        if name.by_ref.is_some() || name.subpat.is_some() {
            self.at(name, format!("write `{}: Type`", name.ident));
        }
        Some(Argument { name: name.ident.clone(), whole: (*typed.ty).clone(), attributes })
    }

    fn returned(&mut self, signature: &Signature) -> Type {
        match &signature.output {
            ReturnType::Type(_, returned) => (**returned).clone(),
            ReturnType::Default => {
                let message = "a tool returns a `Result`: write `-> Result<T, ToolError>` with \
                               what the model gets as `T`, `()` if that is nothing";
                self.add(Error::new(signature.paren_token.span.close(), message));
                Type::Verbatim(quote!(()))
            }
        }
    }
}

/// Returns the context that an argument of type `whole` is.
fn context_of(whole: &Type) -> Option<Context> {
    let Type::Path(path) = whole else { return None };
    let last = path.path.segments.last()?;
    let deps = deps_of(last);
    (last.ident == "ToolContext").then(|| Context { whole: whole.clone(), deps })
}

fn deps_of(context: &PathSegment) -> Option<Type> {
    let PathArguments::AngleBracketed(given) = &context.arguments else { return None };
    given.args.iter().find_map(|argument| {
        let GenericArgument::Type(deps) = argument else { return None };
        Some(deps.clone())
    })
}

/// Returns what to write in place of a reference to `borrowed`.
fn owned(borrowed: &Type) -> String {
    if let Type::Slice(slice) = borrowed {
        return format!("Vec<{}>", owned(&slice.elem));
    }
    if let Type::Path(path) = borrowed
        && path.path.is_ident("str")
    {
        return "String".to_owned();
    }
    borrowed.span().source_text().unwrap_or_else(|| borrowed.to_token_stream().to_string())
}
