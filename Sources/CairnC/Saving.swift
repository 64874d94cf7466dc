// swift-format-ignore-file: AlwaysUseLowerCamelCase

public import CCairn
internal import Cairn

/// What `cairn_save` stands for.
private struct Saving: @unchecked Sendable {
    // Unchecked: the interface asks for one thread at a time.
    var save: StateSave

    static func at(_ pointer: OpaquePointer?) throws(CairnError) -> StateSave {
        try Handle<Saving>.value(of: pointer, "save").save
    }
}

extension StateSaveOptions {
    fileprivate init(_ argument: UnsafePointer<CChar>?) throws(CairnError) {
        var options = try Options(argument)
        guard let step = try options.uint64("step") else {
            throw CairnError(.usage, "the option \"step\" is needed to save")
        }
        self.init(run: try options.text("run"), step: step)
        metrics = try options.metrics("metrics")
        for member in try options.object("metadata") {
            metadata[member.key] = member.value.text
        }
        pin = try options.text("pin")
        replace = try options.bool("replace")
        rehash = try options.bool("rehash")
        earlier = try options.text("earlier")
        readsBases = try options.bool("readsBases", unlessGiven: true)
        isPrivate = try options.bool("isPrivate")
        if let rank = try options.int("rank", in: 0...99_999) {
            part = StatePart(
                rank: rank, worldSize: try options.int("worldSize", in: 1...100_000) ?? 0,
                attempt: try options.text("attempt") ?? "",
                turn: try options.int("turn", in: 0...Int.max) ?? 0)
        }
        try options.end()
    }
}

@c @implementation
public func cairn_save_begin(
    _ store: OpaquePointer?, _ options: UnsafePointer<CChar>?,
    _ save: UnsafeMutablePointer<OpaquePointer?>?
) -> cairn_status {
    save?.pointee = nil
    return attempt {
        let save = try save.given("save")
        let store = try Handle<Store>.value(of: store, "store")
        save.pointee = Handle.make(Saving(save: try store.beginSave(try StateSaveOptions(options))))
    }
}

@c @implementation
public func cairn_save_add_tensor(
    _ save: OpaquePointer?, _ file: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>?,
    _ dtype: UnsafePointer<CChar>?, _ shape: UnsafePointer<UInt64>?, _ axes: Int,
    _ data: UnsafeRawPointer?, _ bytes: Int, _ earlier: UnsafeRawPointer?
) -> cairn_status {
    attempt {
        let save = try Saving.at(save)
        let shape = try axes == 0 ? [] : Array(UnsafeBufferPointer(start: shape.given("shape"), count: axes))
        if bytes > 0 { _ = try data.given("data") }
        try save.add(
            .init(
                file: try file.text("file"), name: try name.text("name"), dtype: try dtype.text("dtype"),
                shape: shape, bytes: UnsafeRawBufferPointer(start: data, count: bytes), earlier: earlier))
    }
}

@c @implementation
public func cairn_save_add_file(
    _ save: OpaquePointer?, _ path: UnsafePointer<CChar>?, _ data: UnsafeRawPointer?, _ bytes: Int
) -> cairn_status {
    attempt {
        if bytes > 0 { _ = try data.given("data") }
        try Saving.at(save).add(
            file: try path.text("path"), UnsafeRawBufferPointer(start: data, count: bytes))
    }
}

@c @implementation
public func cairn_save_take(
    _ save: OpaquePointer?, _ control: UnsafeMutablePointer<cairn_control>?
) -> cairn_status {
    attempt { try Saving.at(save).take(progress: Control(control).progress) }
}

@c @implementation
public func cairn_save_commit(
    _ save: OpaquePointer?, _ control: UnsafeMutablePointer<cairn_control>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json) { JSON(try Saving.at(save).commit(progress: Control(control).progress)) }
}

@c @implementation
public func cairn_save_close(_ save: OpaquePointer?) {
    // Not when the last reference goes: nothing of it may stay once this has returned.
    if let saving = try? Saving.at(save) { saving.abort() }
    Handle<Saving>.end(save)
}
