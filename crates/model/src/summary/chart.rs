//! Flow charts for Mermaid and Graphviz.

use std::fmt::Write;

use super::table::batched;
use super::tree::Node;
use super::{Layer, Summary, short};

impl Summary {
    /// A Mermaid flow chart whose subgraphs are the network's modules.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        for node in self.tree() {
            self.mermaid(&mut text, &node, 1, &mut 0);
        }
        for (from, to) in self.edges() {
            let _ = writeln!(text, "  n{from} --> n{to}");
        }
        text
    }

    fn mermaid(&self, text: &mut String, node: &Node, depth: usize, modules: &mut usize) {
        let indent = "  ".repeat(depth);
        match node {
            Node::Layer { index, label } => {
                let lines = lines(&self.layers[*index], label).join("<br/>");
                let _ = writeln!(text, "{indent}n{index}[\"{lines}\"]");
            }
            Node::Module { label, children } => {
                *modules += 1;
                let _ = writeln!(text, "{indent}subgraph m{modules}[\"{label}\"]");
                for child in children {
                    self.mermaid(text, child, depth + 1, modules);
                }
                let _ = writeln!(text, "{indent}end");
            }
        }
    }

    /// A graph for Graphviz' `dot` whose clusters are the network's modules.
    pub fn to_dot(&self) -> String {
        let mut text = format!(
            "digraph {:?} {{\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n  graph [fontname=\"sans-serif\", \
             fontsize=10, style=rounded, color=gray50];\n",
            self.model
        );
        for node in self.tree() {
            self.dot(&mut text, &node, 1, &mut 0);
        }
        for (from, to) in self.edges() {
            let _ = writeln!(text, "  n{from} -> n{to};");
        }
        text.push_str("}\n");
        text
    }

    fn dot(&self, text: &mut String, node: &Node, depth: usize, modules: &mut usize) {
        let indent = "  ".repeat(depth);
        match node {
            Node::Layer { index, label } => {
                let lines = lines(&self.layers[*index], label).join("\\n");
                let _ = writeln!(text, "{indent}n{index} [label=\"{lines}\"];");
            }
            Node::Module { label, children } => {
                *modules += 1;
                let _ = writeln!(
                    text,
                    "{indent}subgraph cluster_{modules} {{\n{indent}  label=\"{label}\";"
                );
                for child in children {
                    self.dot(text, child, depth + 1, modules);
                }
                let _ = writeln!(text, "{indent}}}");
            }
        }
    }

    fn edges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let layers = self.layers.iter().enumerate();
        layers.flat_map(|(to, layer)| layer.sources.iter().map(move |from| (*from, to)))
    }
}

/// What a box says.
pub(super) fn lines(layer: &Layer, label: &str) -> Vec<String> {
    // Layers without parameters are named after their type.
    let title = match layer.params() {
        0 => layer.kind.clone(),
        _ => format!("{label} ({})", layer.kind),
    };
    let mut lines = vec![title, batched(&layer.output_shape)];
    if layer.params() > 0 {
        lines.push(format!("{} parameters", short(layer.params())));
    }
    lines
}
