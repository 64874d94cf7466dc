// swift-format-ignore-file: AlwaysUseLowerCamelCase

public import CCairn
internal import Cairn

private func iteration(_ pointer: OpaquePointer?) throws(CairnError) -> OpenIteration {
    try Handle<OpenIteration>.value(of: pointer, "iteration")
}

@c @implementation
public func cairn_iteration_open(
    _ store: OpaquePointer?, _ reference: UnsafePointer<CChar>?,
    _ iteration: UnsafeMutablePointer<OpaquePointer?>?
) -> cairn_status {
    iteration?.pointee = nil
    return attempt {
        let iteration = try iteration.given("iteration")
        let store = try Handle<Store>.value(of: store, "store")
        iteration.pointee = Handle.make(try store.openIteration(try reference.text("reference")))
    }
}

@c @implementation
public func cairn_iteration_describe(
    _ iteration: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json) {
        let open = try CairnC.iteration(iteration)
        guard case .object(let members) = JSON(try open.details()) else { return .null }
        return .object(members + [.init("stored", .list(open.stored) { JSON($0) })])
    }
}

@c @implementation
public func cairn_iteration_tensor(
    _ iteration: OpaquePointer?, _ name: UnsafePointer<CChar>?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json) {
        let open = try CairnC.iteration(iteration)
        return try open.tensorOfState(try name.text("name")).map { JSON($0) } ?? .null
    }
}

extension StateRead {
    fileprivate init(_ read: cairn_read) throws(CairnError) {
        var region: [Range<UInt64>]?
        if read.start != nil || read.stop != nil {
            let (start, stop) = (try read.start.given("start"), try read.stop.given("stop"))
            region = []
            for axis in 0..<read.axes {
                guard start[axis] <= stop[axis] else {
                    throw CairnError(
                        .usage, "the slice from \(start[axis]) to \(stop[axis]) ends before it begins")
                }
                region!.append(start[axis]..<stop[axis])
            }
        }
        if read.bytes > 0 { _ = try read.target.given("target") }
        self.init(
            file: try read.file.optionalText("file"), name: try read.name.optionalText("name"),
            region: region, target: UnsafeMutableRawBufferPointer(start: read.target, count: read.bytes))
    }
}

@c @implementation
public func cairn_iteration_read(
    _ iteration: OpaquePointer?, _ reads: UnsafePointer<cairn_read>?, _ count: Int,
    _ control: UnsafeMutablePointer<cairn_control>?
) -> cairn_status {
    attempt {
        let open = try CairnC.iteration(iteration)
        guard count > 0 else { return }
        let reads = UnsafeBufferPointer(start: try reads.given("reads"), count: count)
        try open.read(try reads.map { try StateRead($0) }, progress: Control(control).progress)
    }
}

@c @implementation
public func cairn_iteration_close(_ iteration: OpaquePointer?) { Handle<OpenIteration>.end(iteration) }
