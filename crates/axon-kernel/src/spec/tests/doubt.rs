//! What a file says of calls of which nobody knows whether they took effect, and of the tools of an
//! agent defined in Python.

use serde_json::json;

use super::{load, problems};
use crate::spec::{AgentName, AgentSpec, ToolName, ToolSpec};
use crate::spec::{Effect, OnAmbiguous, Rule, ToolTarget};

#[test]
fn only_a_call_that_must_not_be_repeated_can_be_in_doubt() {
    let text = "model = 'test'\n[[tools]]\nname = 'a'\npython = 'm:a'\neffect = 'pure'\n\
        on_ambiguous = 'retry'\nreconcile = 'm:r'\n[[tools]]\nname = 'b'\nrust = 'b'\n\
        effect = 'idempotent'\non_ambiguous = 'ask'";
    assert_eq!(
        problems(text),
        [
            "agent.toml:6:16: tools[0].on_ambiguous: only calls with effect = \"once\" can be in \
             doubt, and this tool has effect = \"pure\": leave `on_ambiguous` out",
            "agent.toml:7:13: tools[0].reconcile: only calls with effect = \"once\" can be in \
             doubt, and this tool has effect = \"pure\": leave `reconcile` out",
        ]
    );
    let wrong = problems("model = 'test'\n[[tools]]\nname = 'a'\nrust = 'a'\non_ambiguous = 'go'");
    assert!(wrong[0].contains("unknown variant `go`, expected one of `ask`, `retry`"), "{wrong:?}");
}

const MODULE: &str = "[runner]\nmodule = 'pkg.mod:agent'\n[[tools]]\nname = 'look_up'\n\
    effect = 'pure'\n[[tools]]\nname = 'pay'\non_ambiguous = 'skip'\nreconcile = 'pkg.mod:paid'\n\
    requires_approval = true\n[[tools]]\nname = 'extra'\npython = 'pkg.mod:extra'\n";

#[test]
fn a_file_says_more_about_the_tools_of_a_python_agent() {
    let spec = load(MODULE).unwrap();
    assert_eq!(spec.tools[0].target, ToolTarget::Own);
    assert_eq!(spec.tools[0].effect, Effect::Pure);
    assert_eq!(spec.tools[1].on_ambiguous, OnAmbiguous::Skip);
    assert_eq!(
        serde_json::to_value(spec.to_wire()).unwrap()["tools"],
        json!([
            { "name": "look_up", "target": "module", "effect": "pure" },
            { "name": "pay", "target": "module", "effect": "once", "requires_approval": true },
            { "name": "extra", "target": "python:pkg.mod:extra", "effect": "once" },
        ])
    );
    let callables = serde_json::to_value(spec.callables()).unwrap();
    assert_eq!(
        callables,
        json!([
            { "target": "pkg.mod:extra", "role": "tool", "effect": "once" },
            { "target": "pkg.mod:paid", "role": "reconcile" },
        ])
    );
    let printed = spec.to_toml().unwrap();
    assert_eq!(load(&printed).unwrap(), spec, "{printed}");
}

#[test]
fn what_only_python_can_say_of_its_tools_is_refused() {
    let text = "[runner]\nmodule = 'pkg.mod:agent'\n[[tools]]\nname = 'a'\ndescription = 'A'\n\
        timeout = '1s'";
    let found = problems(text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with(
            "agent.toml:5:15: tools[0].description: `description` of a tool that the Python agent \
             brings is said there: leave it out, or give `python`, `rust` or `agent`"
        ),
        "{found:?}"
    );
    let mut spec = AgentSpec::new(AgentName::try_from("a").unwrap());
    spec.model = Some("test".try_into().unwrap());
    spec.tools.push(ToolSpec::new(ToolName::try_from("a").unwrap(), ToolTarget::Own));
    let broken = spec.check().unwrap_err();
    assert_eq!((broken[0].pointer.as_str(), &broken[0].rule), ("/tools/0", &Rule::NoModule));
}
