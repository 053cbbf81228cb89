//! Every packet script on a node with the production store on a simulated disk: without faults,
//! storing messages makes no difference.

use martlet_script::{Script, load_all, play};

use crate::node::StoredNode;

fn play_all(shards: u16) {
    let scripts = load_all().expect("the scripts parse");
    let wrong: Vec<String> = scripts
        .iter()
        .filter(|script| shards == 1 || script.one_shard.is_none())
        // Authentication is not available here.
        .filter(|script| script.users.is_empty())
        .flat_map(|script| play_one(script, shards))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(scripts.len() > 200);
}

fn play_one(script: &Script, shards: u16) -> Vec<String> {
    let versions = script.versions.iter();
    let results = versions.map(|version| {
        let mut node = StoredNode::with_settings(shards, &script.settings);
        play(&mut node, script, *version, "stored node")
    });
    results
        .filter_map(|result| Some(result.err()?.to_string()))
        .collect()
}

#[test]
fn scripts_pass_on_one_shard_with_a_store() {
    play_all(1);
}

#[test]
fn scripts_pass_on_three_shards_with_a_store() {
    play_all(3);
}
