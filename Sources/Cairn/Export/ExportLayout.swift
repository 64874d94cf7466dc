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
        self = layout
    }

    var isOfMindSpore: Bool { self == .mindformers || self == .mindformers1 }

    private static func options(_ options: ExportOptions) -> [(String, Bool, [ExportLayout])] {
        let meshes: [ExportLayout] = [.mindformers, .mindformers1]
        return [
            ("--max-shard-size", options.maxShardSize != nil, [.hf, .safetensors, .dcp]),
            ("--all", options.all, [.hf, .safetensors, .torch, .dcp]),
            ("--prefix", options.prefix != nil, meshes),
            ("--no-optimizer", options.withoutOptimizer, meshes),
            ("--remove-redundancy", options.removesRedundancy, [.mindformers]),
            ("--unified", options.isUnified, meshes),
            ("--mesh", options.mesh != nil, meshes),
            ("--maps-of", options.mapsOf != nil, meshes),
            ("--maps", options.maps != nil, meshes),
        ]
    }
}
