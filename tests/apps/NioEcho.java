// SPDX-License-Identifier: Apache-2.0
// NioEcho server PORT | client HOST PORT BYTES: one selector thread echoes; four client threads send and
// receive BYTES each through blocking channels, and compare; the last one uses streams of java.io
import java.io.DataInputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.Random;

public class NioEcho {
	static void serve(int port) throws Exception {
		Selector selector = Selector.open();
		ServerSocketChannel listener = ServerSocketChannel.open();
		listener.bind(new InetSocketAddress("0.0.0.0", port));
		listener.configureBlocking(false);
		listener.register(selector, SelectionKey.OP_ACCEPT);
		for (;;) {
			selector.select();
			for (SelectionKey key : selector.selectedKeys()) {
				if (key.isAcceptable()) {
					SocketChannel channel = listener.accept();
					channel.configureBlocking(false);
					channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(100000));
				} else {
					echo(key);
				}
			}
			selector.selectedKeys().clear();
		}
	}

	// The buffer is empty and waits for input, or full and waits for room.
	static void echo(SelectionKey key) throws Exception {
		SocketChannel channel = (SocketChannel) key.channel();
		ByteBuffer buffer = (ByteBuffer) key.attachment();
		if (key.isReadable()) {
			buffer.clear();
			if (channel.read(buffer) < 0) {
				channel.close();
				return;
			}
			buffer.flip();
		}
		channel.write(buffer);
		key.interestOps(buffer.hasRemaining() ? SelectionKey.OP_WRITE : SelectionKey.OP_READ);
	}

	static void nio(String host, int port, int number, long bytes) throws Exception {
		byte[] block = new byte[50000];
		new Random(number).nextBytes(block);
		try (SocketChannel channel = SocketChannel.open(new InetSocketAddress(host, port))) {
			Thread sender = new Thread(() -> {
				try {
					for (long sent = 0; sent < bytes; sent += block.length) {
						ByteBuffer out = ByteBuffer.wrap(block);
						while (out.hasRemaining())
							channel.write(out);
					}
					channel.shutdownOutput();
				} catch (Exception e) {
					throw new RuntimeException(e);
				}
			});
			sender.start();
			ByteBuffer in = ByteBuffer.allocateDirect(block.length);
			byte[] got = new byte[block.length];
			for (long read = 0; read < bytes; read += block.length) {
				in.clear();
				while (in.hasRemaining())
					if (channel.read(in) < 0)
						throw new Exception("the end came early");
				in.flip();
				in.get(got);
				if (!Arrays.equals(got, block))
					throw new Exception("content differs");
			}
			sender.join();
		}
	}

	static void io(String host, int port) throws Exception {
		byte[] message = new byte[3000], got = new byte[3000];
		try (Socket socket = new Socket(host, port)) {
			OutputStream out = socket.getOutputStream();
			DataInputStream in = new DataInputStream(socket.getInputStream());
			for (int i = 0; i < 2000; i++) {
				Arrays.fill(message, (byte) i);
				out.write(message);
				in.readFully(got);
				if (!Arrays.equals(got, message))
					throw new Exception("message " + i + " differs");
			}
		}
	}

	public static void main(String[] args) throws Exception {
		if (args[0].equals("server")) {
			serve(Integer.parseInt(args[1]));
			return;
		}
		Thread[] threads = new Thread[4];
		boolean[] done = new boolean[threads.length];
		for (int i = 0; i < threads.length; i++) {
			int number = i;
			threads[i] = new Thread(() -> {
				try {
					if (number == 3)
						io(args[1], Integer.parseInt(args[2]));
					else
						nio(args[1], Integer.parseInt(args[2]), number, Long.parseLong(args[3]));
					done[number] = true;
				} catch (Exception e) {
					e.printStackTrace();
				}
			});
			threads[i].start();
		}
		for (int i = 0; i < threads.length; i++) {
			threads[i].join();
			if (!done[i])
				System.exit(1);
		}
	}
}
