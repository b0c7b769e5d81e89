//! The layers sorted into the modules that hold them.

use super::Summary;

/// A module or a layer.
pub(super) enum Node {
    Layer {
        /// Place in the list of layers.
        index: usize,
        /// Name inside the module.
        label: String,
    },
    Module {
        label: String,
        children: Vec<Node>,
    },
}

impl Node {
    /// Places of all layers in it, in order.
    pub fn layers(&self) -> Vec<usize> {
        match self {
            Self::Layer { index, .. } => vec![*index],
            Self::Module { children, .. } => children.iter().flat_map(Node::layers).collect(),
        }
    }
}

impl Summary {
    /// The outermost modules and layers, in the order in which they first run. A module of a single layer is that layer.
    pub(super) fn tree(&self) -> Vec<Node> {
        let indices: Vec<usize> = (0..self.layers.len()).collect();
        self.branch(&indices, 0)
    }

    fn branch(&self, indices: &[usize], depth: usize) -> Vec<Node> {
        let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
        for &index in indices {
            let name = self.layers[index].path[depth].as_str();
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, members)) => members.push(index),
                None => groups.push((name, vec![index])),
            }
        }
        let nodes = groups.into_iter().map(|(name, members)| {
            if let [index] = members[..] {
                return Node::Layer {
                    index,
                    label: name.to_owned(),
                };
            }
            Node::Module {
                label: name.to_owned(),
                children: self.branch(&members, depth + 1),
            }
        });
        nodes.collect()
    }
}
