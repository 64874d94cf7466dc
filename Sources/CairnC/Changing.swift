// swift-format-ignore-file: AlwaysUseLowerCamelCase

public import CCairn
internal import Cairn

@c @implementation
public func cairn_pin(
    _ store: OpaquePointer?, _ reference: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        JSON(try store.pin(try reference.text("reference"), name: try name.text("name")))
    }
}

@c @implementation
public func cairn_unpin(
    _ store: OpaquePointer?, _ name: UnsafePointer<CChar>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { JSON(try $0.unpin(try name.text("name"))) }
}

@c @implementation
public func cairn_annotate(
    _ store: OpaquePointer?, _ reference: UnsafePointer<CChar>?, _ metrics: UnsafePointer<CChar>?,
    _ note: UnsafePointer<CChar>?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        let reference = try reference.text("reference")
        var options = try Options(metrics, "metrics")
        let values = try options.metrics()
        let note = try note.optionalText("note")
        if values.isEmpty, note?.isEmpty != false {
            throw CairnError(.usage, "nothing to add: give metrics or a note")
        }
        return JSON(try store.annotate(reference, metrics: values, note: note))
    }
}

@c @implementation
public func cairn_rewind(
    _ store: OpaquePointer?, _ reference: UnsafePointer<CChar>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { JSON(superseded: try $0.rewind(to: try reference.text("reference"))) }
}

@c @implementation
public func cairn_delete(
    _ store: OpaquePointer?, _ references: UnsafePointer<CChar>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        // Without NULL for all of them.
        _ = try references.given("references")
        return JSON(try store.delete(try references.references("references")))
    }
}

@c @implementation
public func cairn_policy(
    _ store: OpaquePointer?, _ run: UnsafePointer<CChar>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        guard let run = try run.optionalText("run") else {
            return .list(try store.policies()) { JSON(run: $0.run, policy: $0.policy) }
        }
        _ = try store.iterations(run: run)
        return JSON(run: run, policy: try store.policy(run: run))
    }
}

@c @implementation
public func cairn_set_policy(
    _ store: OpaquePointer?, _ run: UnsafePointer<CChar>?, _ policy: UnsafePointer<CChar>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { store in
        let run = try run.optionalText("run") ?? store.defaultRun()
        let rules = try policy == nil ? Policy() : Policy(given: try policy.json("policy"))
        // A run may have rules before its first save, but there is nothing to take away then.
        if rules.isEmpty { _ = try store.iterations(run: run) }
        let policy = rules.isEmpty ? nil : rules
        try store.setPolicy(policy, run: run)
        return JSON(run: run, policy: policy)
    }
}

@c @implementation
public func cairn_gc(
    _ store: OpaquePointer?, _ dryRun: Int32, _ control: UnsafeMutablePointer<cairn_control>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { JSON(try $0.collect(dryRun: dryRun != 0, progress: Control(control).progress)) }
}
