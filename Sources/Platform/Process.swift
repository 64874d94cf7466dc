internal import CLinux
import Glibc

/// The process that this code runs in.
public enum Process {
    public static var identifier: Int32 { getpid() }

    /// Advances in the child of each fork: what was made under another generation must not be used.
    public static var forkGeneration: UInt32 { cl_forkGeneration() }

    public static var availableProcessors: Int { Int(cl_availableProcessors()) }

    /// How many files the process may have open (ulimit -n).
    public static var descriptorLimit: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 256 }
        return Int(clamping: limit.rlim_cur)
    }

    public static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }
}
