/// A layer of Mamba's, several of whose tensors are more than one: what they are called there is `z`, `x`, `B`, `C` and `dt`. (Megatron-LM,
/// `core/ssm/mamba_mixer.py:sharded_state_dict`)
enum MegatronMamba {
    /// What a rank has of each, along the first axis, which the shapes of the layer's other tensors say; nil where they don't, or it is
    /// another tensor.
    static func lengths(of name: String, _ shape: (String) -> [UInt64]?) -> [UInt64]? {
        let own = ["in_proj.weight", "conv1d.weight", "conv1d.bias"].first { name.hasSuffix(".mixer." + $0) }
        guard let own else { return nil }
        let prefix = name.dropLast(own.utf8.count)
        guard let inner = shape(prefix + "out_proj.weight")?.last,
            let heads = shape(prefix + "dt_bias")?.first,
            let rows = shape(prefix + "in_proj.weight")?.first,
            let convolved = shape(prefix + "conv1d.weight")?.first,
            inner < 1 << 48, heads < 1 << 48, rows >= 2 * inner + heads
        else { return nil }
        let groups = (rows - 2 * inner - heads) / 2
        guard 2 * inner + 2 * groups + heads == rows, inner + 2 * groups == convolved else { return nil }
        return own == "in_proj.weight" ? [inner, inner, groups, groups, heads] : [inner, groups, groups]
    }
}
