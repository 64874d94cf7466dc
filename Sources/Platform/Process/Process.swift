internal import CLinux
import Glibc

/// The process that this code runs in.
public enum Process {
    public static var identifier: Int32 { getpid() }

    /// Advances in the child of each fork: what was made under another generation must not be used.
    public static var forkGeneration: UInt32 { cl_forkGeneration() }

    public static var availableProcessors: Int { Int(cl_availableProcessors()) }

    public static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }
}
