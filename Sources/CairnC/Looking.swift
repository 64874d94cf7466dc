// swift-format-ignore-file: AlwaysUseLowerCamelCase

public import CCairn
internal import Cairn

@c @implementation
public func cairn_list(
    _ store: OpaquePointer?, _ run: UnsafePointer<CChar>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        .list(try store.iterations(run: try run.optionalText("run"))) { JSON($0) }
    }
}

@c @implementation
public func cairn_show(
    _ store: OpaquePointer?, _ reference: UnsafePointer<CChar>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { JSON(try $0.show(try reference.text("reference"))) }
}

@c @implementation
public func cairn_diff(
    _ store: OpaquePointer?, _ before: UnsafePointer<CChar>?, _ after: UnsafePointer<CChar>?,
    _ control: UnsafeMutablePointer<cairn_control>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        JSON(
            try store.diff(
                try before.text("before"), try after.text("after"), progress: Control(control).progress))
    }
}

@c @implementation
public func cairn_stats(
    _ store: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { JSON(try $0.stats()) }
}

@c @implementation
public func cairn_pins(
    _ store: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { .list(try $0.pins()) { JSON($0) } }
}

@c @implementation
public func cairn_verify(
    _ store: OpaquePointer?, _ references: UnsafePointer<CChar>?, _ quick: Int32,
    _ control: UnsafeMutablePointer<cairn_control>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        let chosen = try references.references("references")
        // One of its own: what is damaged in an index may crash whoever reads it before it was looked at.
        let checked = try store.again(repairing: true)
        return JSON(try checked.verify(chosen, quick: quick != 0, progress: Control(control).progress))
    }
}
