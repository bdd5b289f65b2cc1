//! Writes the tool.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, ItemFn, LitStr, Visibility};

use crate::function::{Argument, Function};
use crate::options::Options;

/// Writes the tool that `function` becomes.
///
/// Its name is that of a type, which has the function as `call`, and that of a function that makes a
/// value of the type. So nothing in the module but a function has the name as a value, and it can
/// still be the name of a variable, which it could not if the value were a unit struct.
pub(crate) fn tool(options: &Options, function: &Function) -> TokenStream {
    let Function { item, docs, conditions, .. } = function;
    let (name, visibility) = (&item.sig.ident, &item.vis);
    let declared = declared(visibility, name, &quote!(#(#docs)* #(#conditions)*));
    let call = call(item);
    let arguments = arguments(function, &tool_name(options, name));
    let implementation = implementation(options, function);
    quote! {
        #declared
        #(#conditions)*
        impl #name { #call }
        #(#conditions)*
        const _: () = {
            #arguments
            #implementation
        };
    }
}

/// Tells what is wrong, and stands in for the tool, so that nobody is told that it is missing, too.
pub(crate) fn stand_in(item: &ItemFn, wrong: &Error) -> TokenStream {
    let (name, told) = (&item.sig.ident, wrong.to_compile_error());
    let declared = declared(&item.vis, name, &quote!(#[allow(dead_code)]));
    quote! {
        #told
        #declared
        impl ::axon_runtime::RustTool for #name {
            type Deps = ::axon_runtime::AnyDeps;
            fn into_tool(
                self,
            ) -> ::core::result::Result<::axon_runtime::Tool, ::axon_runtime::DefinitionError> {
                ::core::unreachable!("it does not compile")
            }
        }
    }
}

fn declared(visibility: &Visibility, name: &Ident, attributes: &TokenStream) -> TokenStream {
    quote! {
        #attributes
        #[allow(non_camel_case_types, reason = "it is the tool of this name")]
        #[derive(Clone, Copy, Debug)]
        #visibility struct #name {}

        #attributes
        #[must_use]
        #visibility fn #name() -> #name {
            #name {}
        }
    }
}

fn call(item: &ItemFn) -> TokenStream {
    let ItemFn { attrs, vis, sig, block, .. } = item;
    let mut sig = sig.clone();
    sig.ident = format_ident!("call", span = sig.ident.span());
    quote! {
        /// Makes a call of the tool as it stands in the code, outside of any run.
        #[allow(clippy::missing_errors_doc, reason = "they are the tool's, which is for a model")]
        #(#attrs)*
        #vis #sig #block
    }
}

fn tool_name(options: &Options, name: &Ident) -> LitStr {
    options.name.clone().unwrap_or_else(|| LitStr::new(&name.unraw().to_string(), name.span()))
}

/// Writes the type that the model's arguments are read into.
fn arguments(function: &Function, name: &LitStr) -> TokenStream {
    let fields = function.arguments.iter().map(|argument| {
        let Argument { name, whole, attributes } = argument;
        quote!(#(#attributes)* #name: #whole)
    });
    // Those with attributes of their own may be read and described otherwise than by their type.
    let plain = function.arguments.iter().filter(|argument| {
        argument.attributes.iter().all(|attribute| attribute.path().is_ident("doc"))
    });
    let checks =
        plain.map(|Argument { whole, .. }| quote_spanned!(whole.span() => __argument::<#whole>();));
    quote! {
        fn __argument<T: ::axon_runtime::__private::ToolArgument>() {}
        const _: fn() = || { #(#checks)* };

        #[derive(
            ::axon_runtime::__private::serde::Deserialize,
            ::axon_runtime::__private::schemars::JsonSchema,
        )]
        #[serde(crate = "::axon_runtime::__private::serde", rename = #name, deny_unknown_fields)]
        #[schemars(crate = "::axon_runtime::__private::schemars")]
        struct __Arguments { #(#fields),* }
    }
}

fn implementation(options: &Options, function: &Function) -> TokenStream {
    let Function { item, description, context, returned, .. } = function;
    let name = &item.sig.ident;
    let tool = tool_name(options, name);
    let deps = context.as_ref().and_then(|context| context.deps.as_ref());
    let deps = deps.map_or_else(|| quote!(::axon_runtime::AnyDeps), |deps| quote!(#deps));
    let context_type = context.as_ref().map_or_else(
        || quote!(::axon_runtime::ToolContext),
        |context| {
            let whole = &context.whole;
            quote!(#whole)
        },
    );
    let given = context.is_some().then(|| quote!(__context,));
    let fields = function.arguments.iter().map(|argument| {
        let name = &argument.name;
        quote!(__arguments.#name)
    });
    let calls = options.calls();
    // At the place of the type, so that it is told there what cannot be returned.
    let function = quote_spanned! { returned.span() =>
        |__context: #context_type, __arguments: __Arguments| async move {
            <#returned as ::axon_runtime::__private::ToolResult>::into_result(
                #name::call(#given #(#fields),*).await
            )
        }
    };
    quote! {
        impl ::axon_runtime::RustTool for #name {
            type Deps = #deps;

            fn into_tool(
                self,
            ) -> ::core::result::Result<::axon_runtime::Tool, ::axon_runtime::DefinitionError> {
                let tool = ::axon_runtime::Tool::new(#tool, #function)?;
                ::core::result::Result::Ok(tool.described(#description) #calls)
            }
        }
    }
}
