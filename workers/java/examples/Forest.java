package examples;
public final class Forest { public static void main(String[] a) {} }
