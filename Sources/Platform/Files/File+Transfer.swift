internal import CLinux
import Glibc

extension File {
    /// Fills `buffer` from `offset` on, less only where the file ends. Returns the bytes read.
    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(CairnError) -> Int
    {
        var done = 0
        while done < buffer.count {
            let count = pread(
                descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + done)
            if count < 0 {
                if errno == EINTR { continue }
                throw .system(errno, "read", path)
            }
            if count == 0 { break }
            done += count
            // A direct read that falls short of a whole block has met the end of the file.
            if isDirect, !done.isMultiple(of: 4096) { break }
        }
        return done
    }

    /// Whether all of a range lies in the page cache, so that reading it keeps nobody waiting. False where that can't be told.
    public func isCached(_ range: Range<UInt64>) -> Bool {
        cl_isCached(descriptor, range.lowerBound, range.upperBound - range.lowerBound) != 0
    }

    /// `count` bytes from `offset` on.
    /// - Throws: `.changed` where the file ends before.
    public func read(_ count: Int, at offset: UInt64) throws(CairnError) -> [UInt8] {
        var failure: CairnError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            do throws(CairnError) {
                initialized = try read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        guard bytes.count == count else {
            throw CairnError(
                .changed, "\(path) ends at byte \(offset + UInt64(bytes.count)), too early", path: path.text)
        }
        return bytes
    }

    /// Everything from `offset` to the end of the file.
    public func readToEnd(from offset: UInt64 = 0) throws(CairnError) -> [UInt8] {
        let size = try status().size
        return size > offset ? try read(Int(size - offset), at: offset) : []
    }

    /// Writes all of `bytes` at `offset`.
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(CairnError) {
        var done = 0
        while done < bytes.count {
            let count = pwrite(
                descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset) + done)
            if count < 0 {
                if errno == EINTR { continue }
                throw .system(errno, "write", path)
            }
            guard count > 0 else { throw .system(ENOSPC, "write", path) }
            done += count
            // Direct writing goes on at a whole block; what was written past it is written again.
            if isDirect { done &= ~4095 }
            if isDirect, count < 4096 { throw .system(ENOSPC, "write", path) }
        }
    }

    public func write(_ bytes: [UInt8], at offset: UInt64) throws(CairnError) {
        var failure: CairnError?
        bytes.withUnsafeBytes { buffer in
            do throws(CairnError) { try write(buffer, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// Makes data and metadata durable. After a failure what the file holds is unknown: it is never tried again.
    public func sync() throws(CairnError) {
        guard fsync(descriptor) == 0 else { throw .system(errno, "sync", path) }
    }

    /// Makes the data durable, and the metadata that reading it needs.
    public func syncData() throws(CairnError) {
        guard fdatasync(descriptor) == 0 else { throw .system(errno, "sync", path) }
    }

    public func truncate(to size: UInt64) throws(CairnError) {
        guard ftruncate(descriptor, off_t(size)) == 0 else { throw .system(errno, "cut", path) }
    }

    /// Reserves blocks up to `size`, which the file then has; nothing where the file system can't.
    public func allocate(to size: UInt64) throws(CairnError) {
        let code = cl_fallocate(descriptor, 0, 0, Int64(size))
        if code == EOPNOTSUPP { return try truncate(to: size) }
        guard code == 0 else { throw .system(code, "reserve space in", path) }
    }

    /// Makes the file longer, with blocks that read as zero, so that many can write into it at once. Only helps: where that fails, it is
    /// as long as it was, or a little longer, and writing goes on.
    public func reserve(to size: UInt64) {
        var limit = rlimit()
        // Beyond what the shell allows (ulimit -f) the kernel would end the process.
        guard getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0, size <= limit.rlim_cur
        else {
            return
        }
        _ = cl_fallocate(descriptor, 0, 0, Int64(size))
    }

    /// Gives the blocks of a range back; it reads as zero from then on. Returns false where the file system can't.
    public func punch(_ range: Range<UInt64>) throws(CairnError) -> Bool {
        var code: Int32
        repeat {
            code = cl_fallocate(descriptor, 1, Int64(range.lowerBound), Int64(range.count))
        } while code == EINTR
        if code == EOPNOTSUPP { return false }
        guard code == 0 else { throw .system(code, "free space in", path) }
        return true
    }

    /// The stretches of `range` that are not holes. All of it where the file system can't say.
    public func dataRanges(in range: Range<UInt64>) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        var position = range.lowerBound
        while position < range.upperBound {
            let data = cl_seek(descriptor, Int64(position), 0)
            if data < 0 { return errno == ENXIO ? result : result + [position..<range.upperBound] }
            if UInt64(data) >= range.upperBound { return result }
            let hole = cl_seek(descriptor, data, 1)
            let end = hole < 0 ? range.upperBound : min(UInt64(hole), range.upperBound)
            result.append(UInt64(data)..<end)
            position = end
        }
        return result
    }
}
