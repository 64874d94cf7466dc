// swift-format-ignore-file: AlwaysUseLowerCamelCase

internal import CCairn
internal import Cairn
internal import Glibc

/// What went wrong last in one thread, as texts of C.
private final class LastError {
    let message: UnsafeMutablePointer<CChar>
    let code: UnsafeMutablePointer<CChar>
    let path: UnsafeMutablePointer<CChar>?

    init(_ error: CairnError) {
        message = strdup(error.message)
        code = strdup(error.code.rawValue)
        path = error.path.map { strdup($0) }
    }

    deinit {
        free(message)
        free(code)
        free(path)
    }

    /// Where each thread keeps its own; goes with the thread.
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let code = pthread_key_create(&key) { Unmanaged<LastError>.fromOpaque($0!).release() }
        precondition(code == 0, "the process has used up its thread-specific keys")
        return key
    }()

    static var current: LastError? {
        get { pthread_getspecific(key).map { Unmanaged.fromOpaque($0).takeUnretainedValue() } }
        set {
            let old = pthread_getspecific(key)
            pthread_setspecific(key, newValue.map { Unmanaged.passRetained($0).toOpaque() })
            if let old { Unmanaged<LastError>.fromOpaque(old).release() }
        }
    }
}

/// Makes a call: an error becomes its status, and what `cairn_error_message` says.
func attempt(_ body: () throws -> Void) -> cairn_status {
    do {
        try body()
        return CAIRN_OK
    } catch {
        // One that no layer has turned into a sentence is a mistake of ours.
        let error = error as? CairnError ?? CairnError(.init(rawValue: "internal"), "\(error)")
        LastError.current = LastError(error)
        return cairn_status(rawValue: numericCast(ExitStatus.of(error.code)))
    }
}

@c @implementation
public func cairn_error_message() -> UnsafePointer<CChar>? {
    LastError.current.map { UnsafePointer($0.message) } ?? UnsafePointer(emptyText)
}

@c @implementation
public func cairn_error_code() -> UnsafePointer<CChar>? {
    LastError.current.map { UnsafePointer($0.code) } ?? UnsafePointer(emptyText)
}

@c @implementation
public func cairn_error_path() -> UnsafePointer<CChar>? {
    LastError.current.flatMap { $0.path }.map { UnsafePointer($0) }
}

// Never changed.
private nonisolated(unsafe) let emptyText: UnsafeMutablePointer<CChar> = strdup("")
