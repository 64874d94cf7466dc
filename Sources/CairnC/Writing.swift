// swift-format-ignore-file: AlwaysUseLowerCamelCase

public import CCairn
internal import Cairn

@c @implementation
public func cairn_restore(
    _ store: OpaquePointer?, _ reference: UnsafePointer<CChar>?, _ destination: UnsafePointer<CChar>?,
    _ options: UnsafePointer<CChar>?, _ control: UnsafeMutablePointer<cairn_control>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        let reference = try reference.text("reference")
        let destination = try destination.path("destination")
        var given = try Options(options)
        let options = RestoreOptions(
            path: try given.text("path"), force: try given.bool("force"),
            skipDamaged: try given.bool("skipDamaged"))
        try given.end()
        return JSON(
            try store.restore(
                reference, to: destination, options: options, progress: Control(control).progress))
    }
}

@c @implementation
public func cairn_export(
    _ store: OpaquePointer?, _ reference: UnsafePointer<CChar>?, _ destination: UnsafePointer<CChar>?,
    _ options: UnsafePointer<CChar>?, _ control: UnsafeMutablePointer<cairn_control>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        let reference = try reference.text("reference")
        let destination = try destination.path("destination")
        let options = try exportOptions(options)
        return JSON(
            try store.export(
                reference, to: destination, options: options, progress: Control(control).progress))
    }
}

private func exportOptions(_ argument: UnsafePointer<CChar>?) throws -> ExportOptions {
    var given = try Options(argument)
    guard let layout = try given.text("layout") else {
        throw CairnError(.usage, "the option \"layout\" is missing: say which, such as {\"layout\": \"hf\"}")
    }
    let maxShardSize = try given.uint64("maxShardSize")
    if maxShardSize == 0 {
        throw CairnError(.usage, "the option \"maxShardSize\" leaves no room for a tensor at 0")
    }
    let options = ExportOptions(
        layout: layout, maxShardSize: maxShardSize, only: try given.text("only"), all: try given.bool("all"),
        rename: try given.text("rename"), config: try given.text("config"), prefix: try given.text("prefix"),
        withoutOptimizer: try given.bool("noOptimizer"),
        removesRedundancy: try given.bool("removeRedundancy"), isUnified: try given.bool("unified"),
        mesh: try given.text("mesh"), mapsOf: try given.text("mapsOf"), maps: try given.text("maps"),
        mergesAdapter: try given.bool("mergeAdapter"), base: try given.text("base"),
        adapterOnly: try given.bool("adapterOnly"), force: try given.bool("force"))
    try given.end()
    return options
}
