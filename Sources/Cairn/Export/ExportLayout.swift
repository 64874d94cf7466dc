internal import Platform

/// The layouts that an iteration is exported to.
enum ExportLayout: String, CaseIterable {
    case hf, safetensors, torch, dcp, mindformers, mindformers1

    /// - Throws: `.usage` for a layout that is not known, and for options that are another's.
    init(_ options: ExportOptions) throws(CairnError) {
        guard let layout = Self(rawValue: options.layout) else {
            let known = Self.allCases.map(\.rawValue)
            throw CairnError(
                .usage,
                "there is no layout \(options.layout) to export to; known are \(known.dropLast().joined(separator: ", ")) "
                    + "and \(known.last!)")
        }
        for (option, isGiven, layouts) in Self.options(options) where isGiven && !layouts.contains(layout) {
            let others = layouts.map(\.rawValue).joined(separator: ", ")
            let advice =
                layout.isOfMindSpore && option == "--all" ? "; --no-optimizer leaves it out there" : ""
            throw CairnError(
                .usage,
                "\(option) means nothing for the layout \(layout.rawValue); it is for \(others)\(advice)")
        }
        if options.config != nil, options.rename == nil, layout != .hf {
            throw CairnError(
                .usage,
                "--config without --rename means nothing for the layout \(layout.rawValue), which has no config.json"
            )
        }
        try Self.checkAdapter(options)
        self = layout
    }

    private static func checkAdapter(_ options: ExportOptions) throws(CairnError) {
        if options.base != nil, !options.mergesAdapter {
            throw CairnError(
                .usage, "--base says what an adapter is merged into; pass --merge-adapter as well")
        }
        guard options.mergesAdapter || options.adapterOnly else { return }
        if options.mergesAdapter, options.adapterOnly {
            throw CairnError(
                .usage, "--merge-adapter and --adapter-only can't both be meant; pass one of them")
        }
        let others = [
            ("--all", options.all), ("--rename", options.rename != nil), ("--config", options.config != nil),
            ("--max-shard-size", options.adapterOnly && options.maxShardSize != nil),
        ]
        for (option, isGiven) in others where isGiven {
            throw CairnError(
                .usage,
                "\(option) means nothing beside \(options.adapterOnly ? "--adapter-only" : "--merge-adapter")"
            )
        }
    }

    var isOfMindSpore: Bool { self == .mindformers || self == .mindformers1 }

    private static func options(_ options: ExportOptions) -> [(String, Bool, [ExportLayout])] {
        let meshes: [ExportLayout] = [.mindformers, .mindformers1]
        return [
            ("--max-shard-size", options.maxShardSize != nil, [.hf, .safetensors, .dcp]),
            ("--all", options.all, [.hf, .safetensors, .torch, .dcp]),
            ("--prefix", options.prefix != nil, meshes),
            ("--no-optimizer", options.withoutOptimizer, meshes),
            ("--remove-redundancy", options.removesRedundancy, meshes),
            ("--unified", options.isUnified, meshes),
            ("--mesh", options.mesh != nil, meshes),
            ("--maps-of", options.mapsOf != nil, meshes),
            ("--maps", options.maps != nil, meshes),
            ("--merge-adapter", options.mergesAdapter, [.hf]),
            ("--base", options.base != nil, [.hf]),
            ("--adapter-only", options.adapterOnly, [.hf]),
        ]
    }
}
