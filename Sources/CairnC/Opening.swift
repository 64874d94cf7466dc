// swift-format-ignore-file: AlwaysUseLowerCamelCase

public import CCairn
internal import Cairn
internal import Glibc

// Never changed.
private nonisolated(unsafe) let version: UnsafeMutablePointer<CChar> = strdup(Store.version)

@c @implementation
public func cairn_version() -> UnsafePointer<CChar>? { UnsafePointer(version) }

@c @implementation
public func cairn_interface_version() -> Int32 { CAIRN_INTERFACE_VERSION }

@c @implementation
public func cairn_free(_ text: UnsafeMutablePointer<CChar>?) { free(text) }

@c @implementation
public func cairn_open(
    _ path: UnsafePointer<CChar>?, _ options: UnsafePointer<CChar>?,
    _ store: UnsafeMutablePointer<OpaquePointer?>?
) -> cairn_status {
    store?.pointee = nil
    return attempt {
        let store = try store.given("store")
        let path = try path.path("path")
        var options = try Options(options)
        let settings = Settings(
            jobs: try options.int("jobs", in: 1...1024) ?? Settings.defaultJobs,
            memory: try options.int("memory", in: Settings.minimumMemory...Int.max) ?? Settings.defaultMemory)
        let creates = try options.bool("create")
        let chunkSize = try options.int("chunkSize", in: 4096...4_194_304) ?? 262_144
        let factor = try options.int("recoveryFactor", in: 1...16) ?? 2
        let records = try options.int("recoveryRecords", in: 1...64) ?? 16
        try options.end()
        let opened =
            creates
            ? try Store.openOrCreate(
                at: path, settings: settings, chunkSize: chunkSize, recoveryFactor: factor,
                recoveryRecords: records)
            : try Store.open(at: path, settings: settings)
        store.pointee = Handle.make(opened)
    }
}

@c @implementation
public func cairn_close(_ store: OpaquePointer?) { Handle<Store>.end(store) }

@c @implementation
public func cairn_describe(
    _ store: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> cairn_status {
    answer(json, store) { JSON($0) }
}
