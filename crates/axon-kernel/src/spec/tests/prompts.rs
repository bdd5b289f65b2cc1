//! What a user sees of instructions in parts.

use proptest::prelude::*;

use super::{load, problems};
use crate::prompt::Template;
use crate::spec::{Instruction, PromptName};

pub(super) fn instructions() -> impl Strategy<Value = Vec<Instruction>> {
    let text = "[ -|~${}é\n]{0,30}"
        .prop_filter_map("no template", |text| Some(Instruction::Text(Template::new(text).ok()?)));
    let rust = "[a-z][a-z0-9_]{0,6}"
        .prop_map(|name| Instruction::Rust(PromptName::try_from(name).unwrap()));
    prop::collection::vec(prop_oneof![text, rust], 0..4)
}

#[test]
fn instructions_are_a_text_or_parts_in_order() {
    let one = load("model = 'test'\ninstructions = 'Be brief.'").unwrap();
    let listed = load("model = 'test'\ninstructions = ['Be brief.']").unwrap();
    assert_eq!(one, listed);
    assert_eq!(one.digest(), listed.digest());
    assert!(one.to_toml().unwrap().contains("instructions = \"Be brief.\""));
    let parts = load("model = 'test'\ninstructions = ['A', { rust = 'today' }, 'B']").unwrap();
    let today = Instruction::Rust("today".parse().unwrap());
    assert_eq!(parts.instructions[1], today);
    assert_eq!(parts.instructions.len(), 3);
    assert_ne!(parts.digest(), one.digest());
}

#[test]
fn each_broken_part_is_told_with_its_place() {
    let found = problems("model = 'test'\ninstructions = ['A', 'Hi {{ deps.name']");
    assert!(found[0].starts_with("agent.toml:2:22: instructions[1]: line 1"), "{found:?}");
    let found = problems("model = 'test'\ninstructions = [{ rust = 'No Name' }]");
    assert!(found[0].contains("instructions"), "{found:?}");
    let found = problems("model = 'test'\ninstructions = 7");
    assert!(found[0].contains("a text, or a list of texts"), "{found:?}");
}
